"""logger=wandb and logger=mlflow: what is refused before a run begins, and what a run and its second session leave."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from short_runs import train

from dreamer.config.schema import LoggerConfig
from dreamer.training.display.loggers import LOGGED_AS, check_logger

WANDB = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
MLFLOW = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No account and no server of whoever runs the tests."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):  # a run sets them; afterwards they are gone
        monkeypatch.setenv(name, "true")


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_without_the_package_the_command_that_installs_it_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=rf'^logger={name} needs the package {name}; pip .* -e "\.\[{name}\]"$'):
        check_logger(LoggerConfig(name, offline=name == "wandb"))
    check_logger(LoggerConfig("csv"))


@WANDB
def test_wandb_without_an_account_is_refused_unless_it_stays_offline(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"^logger=wandb needs an account: run `wandb login`, set WANDB_API_KEY, or "):
        check_logger(LoggerConfig("wandb"))
    check_logger(LoggerConfig("wandb", offline=True))
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        check_logger(LoggerConfig("wandb"))
    with monkeypatch.context() as patch:
        patch.setenv("WANDB_API_KEY", "0" * 40)
        check_logger(LoggerConfig("wandb"))
    (tmp_path / "netrc").write_text("machine wandb.example login user password abc\n")
    check_logger(LoggerConfig("wandb"))


@MLFLOW
def test_mlflow_without_a_server_at_its_address_is_refused_by_the_key() -> None:
    with pytest.raises(ValueError, match=r"^logger.tracking_uri=http://127.0.0.1:1: no server answers there"):
        check_logger(LoggerConfig("mlflow", tracking_uri="http://127.0.0.1:1"))


@pytest.mark.slow
def test_no_such_package_is_imported_where_nobody_asks_for_it() -> None:
    code = "import sys, dreamer.training.run as _; print({'wandb', 'mlflow', 'ray'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert result.stdout.strip() == "set()", result.stderr


def train_twice(tiny: Any, path: Path, *words: str) -> None:
    for max_steps in (500, 700):
        train(
            tiny,
            path,
            max_steps,
            "env=dummy_counter",
            "env.obs=both",
            "trainer.eval_every=500",
            "trainer.video_every=400",
            *words,
        )


@MLFLOW
@pytest.mark.slow
def test_mlflow_has_scalars_films_and_settings_and_a_resumed_run_goes_on_in_the_same(
    tiny: Any, tmp_path: Path, run_directory: Any
) -> None:
    train_twice(tiny, tmp_path / "task" / "run", "logger=mlflow", "logger.project=lab")
    run = run_directory(tmp_path / "task" / "run")
    from mlflow.tracking import MlflowClient

    client = MlflowClient((run.path / "mlruns").as_uri())
    (experiment,) = [found for found in client.search_experiments() if found.name == "lab"]
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_name, logged.info.status) == ("task/run", "FINISHED")
    assert (run.path / LOGGED_AS).read_text() == f"mlflow {logged.info.run_id}\n"
    assert logged.data.params["env.name"] == "dummy_counter" and logged.data.params["trainer.max_steps"] == "500"
    returns = client.get_metric_history(logged.info.run_id, "episode/return")
    assert (
        [(point.step, point.value) for point in returns]
        == [(row["env_step"], row["return"]) for row in run.returns]
        != []
    )
    losses = [point.step for point in client.get_metric_history(logged.info.run_id, "loss/total")]
    assert losses == sorted(losses) and losses[-1] == 700 and len(losses) > 1
    assert {"eval/return_mean", "time/wall_hours", "replay/ratio"} <= logged.data.metrics.keys()
    films = {Path(item.path).name for item in client.list_artifacts(logged.info.run_id, "videos")}
    assert films == {path.name for path in (run.path / "videos").iterdir()} != set()
    assert [item.path for item in client.list_artifacts(logged.info.run_id)] == ["config.yaml", "videos"]


@WANDB
@pytest.mark.slow
def test_wandb_has_scalars_films_and_settings_and_a_resumed_run_goes_on_under_the_same_name(
    tiny: Any, tmp_path: Path, run_directory: Any
) -> None:
    train_twice(tiny, tmp_path / "task" / "run", "logger=wandb", "logger.offline=true", "logger.project=lab")
    import wandb

    wandb.teardown()  # its own process writes the files, and has written them all once it has ended
    run = run_directory(tmp_path / "task" / "run")
    files = sorted(run.path.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2 and len({path.name for path in files}) == 1, "two sessions of one run"
    sessions = [list(records(path)) for path in files]
    name = (run.path / LOGGED_AS).read_text().split()[1]
    for session, max_steps in zip(sessions, (500, 700), strict=True):
        (begun,) = [record.run for record in session if record.WhichOneof("record_type") == "run"]
        assert (begun.run_id, begun.display_name, begun.project) == (name, "task/run", "lab")
        settings = {
            (item.key or ".".join(item.nested_key)): json.loads(item.value_json)
            for record in session
            if record.WhichOneof("record_type") == "config"
            for item in record.config.update
        }
        assert (settings["env.name"], settings["trainer.max_steps"]) == ("dummy_counter", max_steps)
    rows = [row for session in sessions for row in history(session)]
    returns = [(row["trainer/global_step"], row["episode/return"]) for row in rows if "episode/return" in row]
    assert returns == [(row["env_step"], row["return"]) for row in run.returns] != []
    losses = [row["trainer/global_step"] for row in rows if "loss/total" in row]
    assert losses == sorted(losses) and losses[-1] == 700 and len(losses) > 1
    films = {key.removesuffix("/path") for row in rows for key in row if key.endswith("/path")}
    assert films == {"eval/episode", "open_loop/image"}
    assert len(list(run.path.glob("wandb/offline-run-*/files/media/videos/*/*.gif"))) == len(
        list((run.path / "videos").iterdir())
    )


def history(session: list[Any]) -> Iterator[dict[str, Any]]:
    for record in session:
        if record.WhichOneof("record_type") == "history":
            yield {(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in record.history.item}


def records(path: Path) -> Iterator[Any]:
    """What W&B wrote: after 7 bytes of its own, blocks of 32 KiB with pieces of records, in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, whole = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 32768 - place % 32768) < 7:  # too little for the head of another piece
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # the only piece of a record, or its last one
            yield Record.FromString(whole)
            whole = b""

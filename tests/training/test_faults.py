"""Environments that break: what the run keeps, what it says, and how it goes on."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dreamer.errors import RunStopped
from dreamer.training import stopping
from dreamer.training.run import prepare
from dreamer.training.speed.compiling import missing_compiler

FAULTY = (
    "env=custom", "env.class=faulty.Faulty", "env.action_repeat=1", "trainer.eval_every=0", "trainer.video_every=0",
    "trainer.collect_steps=30",
)  # fmt: skip
ENVS = Path(__file__).parents[1] / "envs"


def train(tiny, path, max_steps, *words):
    prepare(tiny(f"run_dir={path}", f"trainer.max_steps={max_steps}", *FAULTY, *words)).fit()


def stored(run) -> dict[str, np.ndarray]:
    """Column -> rows of a replay that kept all of them."""
    state = run.checkpoint["dreamer"]["dataset"]["replay"]
    columns = {}
    for key, (shape, dtype) in state["layout"]["columns"].items():
        data = np.fromfile(run.path / "replay" / f"{key}.bin", dtype).reshape(-1, *shape)
        columns[key] = data[: state["next"][0]]
    return columns


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("nan_reward", "Environment 0, episode 5, row 7: reward is nan"),
        pytest.param(
            "huge_reward", r"Environment 0, episode 5, row 7: reward is 1e\+30, beyond the", marks=pytest.mark.slow
        ),
        pytest.param("nan_pose", r"row 7: observation pose holds nan at \[1\]", marks=pytest.mark.slow),
        pytest.param("huge_pose", r"row 7: observation pose holds inf at \[1\]", marks=pytest.mark.slow),
        pytest.param(
            "short_pose",
            r"row 7: observation pose has the shape \(1,\), where its space promises \(3,\)",
            marks=pytest.mark.slow,
        ),
        pytest.param("wrong_choice", r"row 7: observation choice holds the choice 9999", marks=pytest.mark.slow),
        ("raise", "(?s)Environment 0 cannot go on. Traceback .*faulty.py.*RuntimeError: the gripper is stuck"),
        pytest.param("exit", "(?s)Environment 0 cannot go on. Traceback .*SystemExit: 0", marks=pytest.mark.slow),
    ],
)
def test_a_fault_is_named_and_the_run_saved_as_of_before_it(tiny, tmp_path, run_directory, fault, told):
    words = (f"env.kwargs.fault={fault}", "env.kwargs.discrete=true")
    with pytest.raises(RunStopped, match=told) as caught:
        train(tiny, tmp_path / "run", 400, *words)
    assert "The run is saved as of before that, at environment step 106. To go on: the same" in str(caught.value)
    run = run_directory(tmp_path / "run")
    saved = run.checkpoint
    assert saved["dreamer"]["env_steps"] == 106 and saved["global_step"] > 5
    rows = stored(run)
    assert len(rows["reward"]) == 5 * 21 + 7 and np.isfinite(rows["reward"]).all()
    assert np.isfinite(rows["obs.pose"]).all() and rows["obs.choice"].max() < 4
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


@pytest.mark.slow
def test_a_mended_environment_goes_on_as_if_nothing_had_been(tiny, tmp_path, run_directory):
    with pytest.raises(RunStopped, match="reward is nan"):
        train(tiny, tmp_path / "broken", 400, "env.num_envs=2", "env.kwargs={episode: 3}")
    config = tmp_path / "broken" / "config.yaml"
    assert config.exists()
    # The class that comes with the second start has no fault: its kwargs are the same words.
    import faulty

    real, faulty.FAULTS["nan_reward"] = faulty.FAULTS["nan_reward"], ("reward", 1.0)
    try:
        train(tiny, tmp_path / "broken", 400, "env.num_envs=2", "env.kwargs={episode: 3}")
        train(tiny, tmp_path / "whole", 400, "env.num_envs=2", "env.kwargs={episode: 3}")
    finally:
        faulty.FAULTS["nan_reward"] = real
    broken, whole = run_directory(tmp_path / "broken"), run_directory(tmp_path / "whole")
    assert [row["return"] for row in broken.returns] == [row["return"] for row in whole.returns] != []
    for name, weight in whole.checkpoint["state_dict"].items():
        assert weight.equal(broken.checkpoint["state_dict"][name]), name


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("trainer.overlap=true",), ("env.num_envs=2", "env.workers=process")])
def test_truncate_ends_the_episode_counts_it_and_trains_on(tiny, tmp_path, run_directory, capsys, words):
    fault = ("env.on_fault=truncate", "env.kwargs={fault: nan_reward, episode: 2, every: 2}")
    train(tiny, tmp_path / "run", 300, *fault, *words)
    out = capsys.readouterr().out
    assert "Environment 0, episode 2, row 7: reward is nan: its episode ends here, truncated." in out
    assert "Finished at environment step 300" in out
    run = run_directory(tmp_path / "run")
    rows = stored(run)
    assert all(np.isfinite(rows[key]).all() for key in ("reward", "obs.pose", "deter"))
    cut = np.flatnonzero(rows["is_first"])[1:] - 1
    assert rows["is_last"][cut].all() and not rows["is_terminal"].any()
    faults = [event.value for event in run.events.Scalars("env/faults")]
    assert faults[-1] >= out.count("its episode ends here") - 1 >= 3
    assert {row["length"] for row in run.returns} == {20.0}  # a cut episode is not logged as one that ended


@pytest.mark.slow
def test_an_environment_that_gives_nothing_sound_ends_the_run_all_the_same(tiny, tmp_path):
    words = ("env.on_fault=truncate", "env.kwargs={fault: nan_pose, row: 0, episode: 2, every: 1}")
    with pytest.raises(RunStopped, match=r"row 0: observation pose holds nan .* this came from several episodes"):
        train(tiny, tmp_path / "run", 300, *words)


@pytest.mark.slow
def test_a_fault_in_an_evaluation_cuts_its_episode_or_is_named_and_the_run_saved(tiny, tmp_path, run_directory):
    # The environment of the evaluation comes to its seventh episode long before the one of the run.
    words = ("trainer.eval_every=60", "trainer.eval_episodes=9")
    cut = "env.kwargs={fault: nan_reward, episode: 6}"
    train(tiny, tmp_path / "cut", 100, *words, cut, "env.on_fault=truncate")
    mean = run_directory(tmp_path / "cut").events.Scalars("eval/return_mean")[0].value
    assert mean == pytest.approx((8 * 20 + 6) / 9)
    with pytest.raises(RunStopped, match=r"(?s)The environment of the evaluation raised .*the gripper is stuck"):
        train(tiny, tmp_path / "run", 100, *words, "env.kwargs={fault: raise, episode: 6}")
    assert 60 <= run_directory(tmp_path / "run").checkpoint["dreamer"]["env_steps"] < 100


@pytest.fixture
def start_faulty(start, monkeypatch):
    def start_faulty(*words):
        monkeypatch.setenv("PYTHONPATH", str(ENVS))
        return start("trainer.compile=off", *FAULTY, "run_dir=run", "trainer.max_steps=1e9", *words)

    return start_faulty


@pytest.mark.slow
def test_a_fault_is_one_line_and_status_1(start_faulty):
    process = start_faulty("env.kwargs.fault=nan_reward")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1 and err.startswith("error: Environment 0, episode 5, row 7: reward is nan.")
    assert "Traceback" not in err and err.rstrip().endswith("with run_dir=run")


@pytest.mark.slow
def test_exit_of_an_environment_is_no_success(start_faulty):
    process = start_faulty("env.kwargs.fault=exit")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1 and "SystemExit: 0" in err
    assert "dreamer" not in err.split("Traceback")[1].split("SystemExit")[0]  # calls of ours are left out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
@pytest.mark.parametrize("words", [("env.kwargs.fault=hang",), ("env.kwargs.fault=hang_in_c", "trainer.overlap=true")])
def test_a_hanging_environment_is_named_and_a_signal_saves_the_run(start_faulty, run_directory, tmp_path, words):
    process = start_faulty(*words, "env.step_timeout=1.5")
    lines = []
    while not lines or "has not answered for" not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], process.stderr.read()
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and time.monotonic() - began < 20, err
    assert "Stopped at environment step 106, without the environment, which did not answer." in out
    saved = run_directory(tmp_path / "run").checkpoint["dreamer"]
    assert saved["env_steps"] == 106
    environments = saved["dataset"]["collector"]["stepper"]["envs"]
    assert [(len(env["actions"]), env["simulator"]) for env in environments] == [(6, None)]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGHUP"])
def test_signals_of_schedulers_and_terminals_save_the_run(start_faulty, wait_until, run_directory, tmp_path, name):
    number = getattr(signal, name)
    process = start_faulty("env.kwargs.episode=100000")
    wait_until(process, lambda: len(run_directory(tmp_path / "run").returns) > 5)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert f"{name}: saving and stopping" in out and "Stopped at environment step" in out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_a_signal_during_a_long_evaluation_saves_at_once_and_the_evaluation_is_made_up_for(
    start_faulty, wait_until, run_directory, tmp_path
):
    process = start_faulty("env.kwargs.episode=100000", "trainer.eval_every=60", "trainer.eval_episodes=100000")
    wait_until(process, lambda: (run_directory(tmp_path / "run").returns or [{"env_step": 0}])[-1]["env_step"] >= 60)
    time.sleep(2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and time.monotonic() - began < 10, err
    assert "evaluation at" not in out
    callbacks = run_directory(tmp_path / "run").checkpoint["callbacks"]
    assert next(state["due"] for name, state in callbacks.items() if "Evaluate" in name) == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_a_second_signal_ends_at_once_and_says_what_is_lost(start_faulty, run_directory, tmp_path):
    process = start_faulty("env.kwargs.fault=hang", "env.step_timeout=1.5")
    while "has not answered for" not in (line := process.stdout.readline()):
        assert line, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "SIGTERM: stopping at once. Lost is what came since: no checkpoint was written yet" in out
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
@pytest.mark.skipif(bool(missing_compiler()) or sys.platform == "win32", reason="no C++ compiler, or no SIGTERM")
def test_a_signal_while_torch_compiles_ends_the_run_at_once(start_faulty, wait_until, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # what was compiled before would be found
    process = start_faulty("env.kwargs.episode=100000", "trainer.compile=on")
    wait_until(process, lambda: any((tmp_path / "cache").rglob("*.cpp")))
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143 and time.monotonic() - began < 30, err
    assert "Stopped while compiling" in out and "Traceback" not in err


@pytest.mark.slow
def test_a_signal_that_the_run_was_started_to_ignore_stays_ignored(start_faulty, wait_until, run_directory, tmp_path):
    assert signal.SIGINT in stopping.SIGNALS
    if not hasattr(signal, "SIGHUP"):
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does; children take it over
    try:
        process = start_faulty("env.kwargs.episode=100000")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(process, lambda: len(run_directory(tmp_path / "run").returns) > 3)
    process.send_signal(signal.SIGHUP)
    count = len(run_directory(tmp_path / "run").returns)
    wait_until(process, lambda: len(run_directory(tmp_path / "run").returns) > count + 3)
    assert process.poll() is None

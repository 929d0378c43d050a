"""Sweeps under every launcher: a job that fails stops no other, and one that was interrupted goes on."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SHORT = ("trainer.video_every=0", "trainer.eval_every=0", "run_dir=sweep")
COUNTER = ("env=dummy_counter", "env.obs=proprio", "trainer.compile=off", *SHORT)
ROBOT = """
import gymnasium
import numpy as np


class Robot(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, is_broken=False):
        if is_broken:
            raise RuntimeError("no robot today")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.rows = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.rows += 1
        return np.zeros(2, np.float32), 1.0, False, self.rows == 20, {}
"""


def table(sweep: Path) -> list[dict[str, str]]:
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "ray"])
def test_a_job_that_fails_under_a_launcher_keeps_its_traceback_and_stops_no_other(
    finish, tmp_path, run_directory, launcher
):
    (tmp_path / "robot.py").write_text(ROBOT)
    words = ("env=custom", "env.class=robot.Robot", "env.obs=proprio", *SHORT, "trainer.max_steps=480")
    own = ("hydra.launcher.init.num_cpus=2", "hydra.launcher.remote.num_cpus=1") if launcher == "ray" else ()
    status, out, err = finish("-m", *words, f"hydra/launcher={launcher}", *own, "+env.kwargs.is_broken=true,false")
    sweep = tmp_path / "sweep"
    assert status == 1 and "error: job 0 failed: RuntimeError: no robot today" in err, err
    fault = (sweep / "0" / "error.txt").read_text()
    assert fault.startswith("Traceback") and "robot.py" in fault and fault.endswith("RuntimeError: no robot today\n")
    assert run_directory(sweep / "1").checkpoint["dreamer"]["env_steps"] == 480
    assert "480 of 480 env steps" in (sweep / "1" / "output.txt").read_text()
    rows = table(sweep)
    assert [row["status"] for row in rows] == ["failed: RuntimeError: no robot today", "finished"]
    assert [(row["overrides"], row["return"]) for row in rows][1] == ("+env.kwargs.is_broken=False", "20.00")
    assert "sweep/sweep.csv" in out


def test_an_interrupted_sweep_begins_no_other_job_and_goes_on(start, finish, wait_until, tmp_path, run_directory):
    sweep = tmp_path / "sweep"
    words = ("-m", *COUNTER, "hydra/launcher=joblib", "seed=0,1,2")
    process = start(*words, "trainer.max_steps=1e6", process_group=0)
    wait_until(process, lambda: all((sweep / job / "returns.csv").is_file() for job in "01"))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it, to all processes in it
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "To go on: the same command." in out
    stopped = [run_directory(sweep / job).checkpoint["dreamer"]["env_steps"] for job in "01"]
    words_of = [f"stopped at {env_steps:,}" for env_steps in stopped]
    assert [row["status"] for row in table(sweep)] == [*words_of, "not begun"]
    assert not (sweep / "2" / "config.yaml").exists()

    max_steps = max(stopped) + 80
    status, _, err = finish(*words, f"trainer.max_steps={max_steps}")
    assert status == 0, err
    assert [row["status"] for row in table(sweep)] == ["finished"] * 3
    assert [run_directory(sweep / job).checkpoint["dreamer"]["env_steps"] for job in "012"] == [max_steps] * 3
    assert "resume       " in (sweep / "0" / "output.txt").read_text()

    before = (sweep / "0" / "sessions.jsonl").read_bytes()
    status, out, err = finish(*words, f"trainer.max_steps={max_steps}", "hydra/launcher=basic")
    assert status == 0 and "max_steps" not in out, "all are skipped, nothing is built"
    assert (sweep / "0" / "sessions.jsonl").read_bytes() == before


def test_an_interrupted_sweep_in_one_process_begins_no_other_job(start, wait_until, tmp_path):
    process = start("-m", *COUNTER, "seed=0,1", "trainer.max_steps=1e6", process_group=0)
    wait_until(process, (tmp_path / "sweep" / "0" / "returns.csv").is_file)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "To go on: the same command." in out
    first, second = table(tmp_path / "sweep")
    assert first["status"].startswith("stopped at ") and second["status"] == "not begun"


def test_a_search_prunes_what_is_hopeless_and_is_not_done_twice(finish, tmp_path):
    words = (
        "hparams_search=optuna", *COUNTER, "trainer.max_steps=480", "hydra.sweeper.params=null",
        "+env.kwargs.length=range(2,21)", "hydra.sweeper.n_trials=4", "hydra.callbacks.prune.every=80",
        "hydra.callbacks.prune.kwargs.n_startup_trials=1", "hydra.callbacks.prune.kwargs.n_warmup_steps=0",
    )  # fmt: skip
    status, out, err = finish(*words)
    assert status == 0, err
    sweep = tmp_path / "sweep"
    rows = table(sweep)
    kinds = [row["status"].partition(":")[0] for row in rows]
    assert len(rows) == 4 and set(kinds) == {"finished", "pruned"}, rows
    for row, kind in zip(rows, kinds, strict=True):
        length = int(row["overrides"].removeprefix("+env.kwargs.length="))
        assert float(row["return"]) == length * (length + 1) / 2, "the counter pays 1 + 2 + ... + length"
        assert (sweep / row["job"] / "pruned.txt").is_file() == (kind == "pruned")
    best = max(rows, key=lambda row: float(row["return"]))
    assert (
        best["status"] == "finished"
        and f"best_value: {float(best['return'])}" in (sweep / "optimization_results.yaml").read_text()
    )
    assert "Pruned at environment step" in out and "MedianPruner ends this trial: its mean training return" in out

    status, out, err = finish(*words)
    assert status == 0 and "max_steps" not in out, err
    assert table(sweep) == rows


def test_jobs_of_two_ranks_are_jobs_of_the_sweep(finish, tmp_path, run_directory):
    two = ("trainer.devices=2", "env.num_envs=2", "hparams_search=optuna", "hydra.sweeper.params=null")
    words = (*COUNTER, *two, "trainer.max_steps=480", "+env.kwargs.length=range(5,9)", "hydra.sweeper.n_trials=2")
    status, out, err = finish(*words)
    assert status == 0, out + err
    assert [row["status"] for row in table(tmp_path / "sweep")] == ["finished"] * 2
    for job in "01":
        assert len(run_directory(tmp_path / "sweep" / job).checkpoint["dreamer"]["other_ranks"]) == 1

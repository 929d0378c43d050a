"""Runs of train.py as a user starts them, and what a run leaves behind."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from short_runs import COUNTER, NO_EVALUATION, train
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dreamer.config.schema import Config

ROOT = Path(__file__).parents[2]
SECONDS = 240.0  # within which a process must do what a test waits for, on a machine that has other work too


class RunDirectory:
    """What lies in the directory of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoint(self) -> dict[str, Any]:
        return torch.load(self.path / "checkpoints" / "last.ckpt", weights_only=True)

    @property
    def returns(self) -> list[dict[str, float]]:
        """The rows of returns.csv, a line that is still being written left out."""
        file = self.path / "returns.csv"
        if not file.exists():
            return []
        lines = file.read_text().splitlines(keepends=True)
        rows = csv.DictReader(line for line in lines if line.endswith("\n"))
        return [{key: float(value) for key, value in row.items()} for row in rows]

    @property
    def events(self) -> EventAccumulator:
        return EventAccumulator(str(self.path), size_guidance={"images": 0, "scalars": 0}).Reload()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `python train.py <words>` in an empty directory, and ends what is left of it after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, process_group: int | None = None) -> subprocess.Popen[str]:
        small = ("debug=tiny", "trainer.threads=1", "env.action_repeat=4")
        command = [sys.executable, "-u", str(ROOT / "train.py"), *small, *words]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        pipes["process_group"] = process_group  # 0: one of its own, which a signal can reach as from a terminal
        process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, **pipes)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def finish(start: Callable[..., subprocess.Popen[str]]) -> Callable[..., tuple[int, str, str]]:
    """Runs train.py to its end: exit status, stdout, stderr."""

    def finish(*words: str) -> tuple[int, str, str]:
        process = start(*words)
        out, err = process.communicate(timeout=SECONDS)
        return process.returncode, out, err

    return finish


@pytest.fixture
def wait_until() -> Callable[[subprocess.Popen[str], Callable[[], bool]], None]:
    """Waits for what a running process should bring about; fails with its last words where it ends before."""

    def wait_until(process: subprocess.Popen[str], is_true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not is_true():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.05)

    return wait_until


@pytest.fixture(scope="session")
def run_directory() -> type[RunDirectory]:
    return RunDirectory


@pytest.fixture(scope="session")
def finished(tiny: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run with checkpoints of steps 320 and 480, that others try to go on from; they must leave it as it is."""
    path = tmp_path_factory.mktemp("finished") / "run"
    for max_steps in (320, 480):
        train(tiny, path, max_steps, *COUNTER, NO_EVALUATION)
    return path


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The same run, to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))

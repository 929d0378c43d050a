"""Seconds of what replay does: draw a batch, store its latents again, add one step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.benchmark.timing import Budget, Timing, interleaved, medians, timed
from dreamer.benchmark.update import random_values, spaces
from dreamer.config.schema import Config
from dreamer.data.replay import Replay
from dreamer.data.storage import (
    DISK_SHARE,
    OBS_PREFIX,
    Column,
    choose_storage,
    columns_of,
    free_disk,
    gigabytes,
    nbytes_of,
)

COLD_BATCHES = 10


def measure_replay(config: Config, ram_steps: int, disk_steps: int, budget: Budget) -> dict[str, dict[str, Any]]:
    """sample, write_back and add in memory, and where disk_steps is not 0 the same with that many steps on disk.

    Rows are noise and all of them are filled. `disk_sample` reads what has just been written, as a run does: from the
    system's cache as far as it reaches. `disk_sample_cold` has that cache emptied first, where the system can.
    """
    with _directory() as directory:
        columns = columns_for(config)
        ram_steps = min(ram_steps, int(config.replay.capacity))
        choose_storage("ram", columns, ram_steps, directory)
        entries = _measure(filled(config, columns, ram_steps, "ram", directory), columns, config, budget)
    if not disk_steps:
        return entries
    with _directory() as directory:
        replay = filled(config, columns, disk_steps, "disk", directory)
        on_disk = _measure(replay, columns, config, budget)
        if hasattr(os, "posix_fadvise"):
            replay.save()
            state = replay.state_dict()
            del replay  # a page that is still mapped stays in the cache
            on_disk["sample_cold"] = _cold(config, columns, disk_steps, directory, state)
    return {**entries, **{f"disk_{name}": entry for name, entry in on_disk.items()}}


def check_disk(config: Config, disk_steps: int) -> None:
    """ValueError where that many steps do not fit beside the system's temporary files."""
    need = nbytes_of(columns_for(config), disk_steps)
    if need > (room := int(free_disk(Path(tempfile.gettempdir())) * DISK_SHARE)):
        raise ValueError(
            f"disk_steps={disk_steps} needs {gigabytes(need)} in {tempfile.gettempdir()}, where {gigabytes(room)} "
            "are free; give fewer, or another directory in the environment variable TMPDIR."
        )


def columns_for(config: Config) -> dict[str, Column]:
    return columns_of(*spaces(config.env), config.model.rssm.deter, config.model.rssm.stoch)


def filled(config: Config, columns: dict[str, Column], steps: int, storage: str, directory: Path) -> Replay:
    """A full replay of one environment, with noise in every row."""
    replay = Replay(columns, steps, config.batch_length + 1, 1, storage, directory, config.seed, online=False)
    rows = cycle(random_rows(config, columns))
    for _ in range(steps):
        replay.add(0, next(rows))
    return replay


def random_rows(config: Config, columns: dict[str, Column], count: int = 64) -> list[dict[str, Any]]:
    obs_space, action_space = spaces(config.env)
    spaces_of = {**{OBS_PREFIX + key: space for key, space in obs_space.items()}, "action": action_space}
    noise = {key: random_values(space, (count,)).numpy() for key, space in spaces_of.items()}
    random = np.random.default_rng(config.seed)
    for key, column in columns.items():
        if key not in noise:
            values = random.integers(2, size=(count, *column.shape)) if column.dtype != "float32" else None
            noise[key] = (random.random((count, *column.shape)) if values is None else values).astype(column.dtype)
    return [{key: values[index] for key, values in noise.items()} for index in range(count)]


def _measure(replay: Replay, columns: dict[str, Column], config: Config, budget: Budget) -> dict[str, dict[str, Any]]:
    rows = cycle(random_rows(config, columns))
    size, length, rssm = config.batch_size, config.batch_length, config.model.rssm
    deter, stoch = np.zeros((size, length, rssm.deter), np.float32), np.zeros((size, length, rssm.stoch), np.int64)
    _, row_ids = replay.sample(size)
    functions: dict[str, Callable[[], object]] = {
        "sample": lambda: replay.sample(size),
        "write_back": lambda: replay.write_back(row_ids, deter, stoch),
        "add": lambda: replay.add(0, next(rows)),
    }
    shape = {"steps": replay.num_rows, "batch_size": size, "batch_length": length}
    return {name: _entry(timing, shape) for name, timing in interleaved(functions, budget).items()}


def _cold(
    config: Config, columns: dict[str, Column], steps: int, directory: Path, state: dict[str, Any]
) -> dict[str, Any]:
    """A few batches with nothing of the files in memory; the next ones find hardly any of it, so all are cold."""
    for path in directory.glob("*.bin"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    replay = Replay(columns, steps, config.batch_length + 1, 1, "disk", directory, config.seed, online=False)
    replay.load_state_dict(state)
    samples = [timed(lambda: replay.sample(config.batch_size)) for _ in range(COLD_BATCHES)]
    return _entry(medians(samples), {"steps": steps})


def _entry(timing: Timing, shape: dict[str, int]) -> dict[str, Any]:
    return {**timing._asdict(), "threads": 1, **shape}


@contextmanager
def _directory() -> Iterator[Path]:
    """A temporary directory; Windows cannot delete a file that is still mapped, so what is left there stays."""
    with tempfile.TemporaryDirectory(prefix="dreamer_benchmark_", ignore_cleanup_errors=True) as name:
        yield Path(name)

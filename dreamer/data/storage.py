"""Where replay rows lie: their columns, the memory or disk they need, and the raw files, one per column."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import psutil

from dreamer.types import Space

ROW_ID = "row_id"
LATENTS = ("deter", "stoch")
OBS_PREFIX = "obs."
RAM_SHARE = 0.5  # of the available memory that `auto` may take: the networks need the rest
DISK_SHARE = 0.95  # of the free disk: the checkpoints and logs need the rest


class Column(NamedTuple):
    """Shape and numpy type of one entry of a row."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=int)) * np.dtype(self.dtype).itemsize


def columns_of(obs_space: Mapping[str, Space], action_space: Space, deter: int, stoch: int) -> dict[str, Column]:
    """The columns of a row: observations as `obs.<key>`, action, reward, flags and the latent.

    deter: D; stoch: S, the number of groups, each stored as the index of its class.
    """
    return {
        **{OBS_PREFIX + key: Column(space.shape, space.dtype) for key, space in obs_space.items()},
        "action": Column(action_space.shape, action_space.dtype),
        "reward": Column((), "float32"),
        "is_first": Column((), "bool"),
        "is_last": Column((), "bool"),
        "is_terminal": Column((), "bool"),
        "deter": Column((deter,), "float32"),
        "stoch": Column((stoch,), "int16"),
    }


def nbytes_of(columns: Mapping[str, Column], capacity: int) -> int:
    """Bytes that `capacity` rows take, in memory as on disk."""
    return capacity * (sum(column.nbytes for column in columns.values()) + np.dtype(np.int64).itemsize)


def choose_storage(storage: str, columns: Mapping[str, Column], capacity: int, directory: Path | str) -> str:
    """`ram` or `disk` for replay.storage=auto|ram|disk; ValueError when `capacity` rows do not fit there.

    A checkpoint mirrors rows in memory to `directory`, so `ram` needs the space on disk as well.
    """
    if storage not in ("auto", "ram", "disk"):
        raise ValueError(f"replay.storage={storage} is not known; expected auto, ram or disk.")
    need = nbytes_of(columns, capacity)
    memory, disk = available_memory(), int(free_disk(Path(directory)) * DISK_SHARE)
    if storage == "auto":
        storage = "ram" if need <= memory * RAM_SHARE else "disk"
    room = min(memory, disk) if storage == "ram" else disk
    if need <= room:
        return storage
    largest = room // nbytes_of(columns, 1)
    raise ValueError(
        f"replay.capacity={capacity} needs {gigabytes(need)} with replay.storage={storage}, but "
        f"{gigabytes(memory)} of memory and {gigabytes(disk)} of disk are available; "
        f"the largest that fits is replay.capacity={largest}."
    )


def available_memory() -> int:
    """Bytes that a process may still take, a container's limit included."""
    available = psutil.virtual_memory().available
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    except OSError:  # no control groups on this system
        return available
    if limit == "max":
        return available
    return max(0, min(available, int(limit) - used + int(stat.get("inactive_file", 0))))


def free_disk(directory: Path) -> int:
    """Free bytes where `directory` is or will be; files of an earlier start that lie there are counted as free."""
    path = directory.absolute()
    parent = next((parent for parent in (path, *path.parents) if parent.exists()), Path.cwd())
    return psutil.disk_usage(str(parent)).free + sum(_bytes_on_disk(file) for file in directory.glob("*.bin"))


def _bytes_on_disk(file: Path) -> int:
    stat = file.stat()
    return (
        stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    )  # sparse files take less than their size


def gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"


class ColumnFiles:
    """One raw file per column, each an array [num_streams, rows, ...]; memory-mapped, or written in runs of slots."""

    def __init__(self, directory: Path, columns: Mapping[str, Column], num_streams: int, rows: int) -> None:
        self.directory, self.columns = directory, columns
        self.num_streams, self.rows = num_streams, rows

    def create(self) -> None:
        """Empty files of full size; file systems with sparse files allocate them as rows arrive."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for key in self.columns:
            with open(self._path(key), "wb") as file:
                file.truncate(self._nbytes(key))

    def check(self) -> None:
        for key in self.columns:
            path = self._path(key)
            if not path.is_file():
                raise ValueError(f"The replay file {path} is missing; the run cannot be resumed without it.")
            if path.stat().st_size != self._nbytes(key):
                raise ValueError(
                    f"The replay file {path} has {path.stat().st_size} bytes, expected {self._nbytes(key)}; "
                    f"it belongs to another replay.capacity, env.num_envs or model."
                )

    def map(self, key: str) -> np.memmap:
        column = self.columns[key]
        shape = (self.num_streams, self.rows, *column.shape)
        return np.memmap(self._path(key), dtype=column.dtype, mode="r+", shape=shape)

    def write(self, key: str, slots: Sequence[np.ndarray], array: np.ndarray) -> None:
        """Copy slots[stream] (ascending) of every stream from array [num_streams, rows, ...] and wait for the disk."""
        with open(self._path(key), "r+b") as file:
            for position, part in self._parts(key, slots, array):
                file.seek(position)
                file.write(part.data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, key: str, slots: Sequence[np.ndarray], array: np.ndarray) -> None:
        """The reverse of `write`."""
        with open(self._path(key), "rb") as file:
            for position, part in self._parts(key, slots, array):
                file.seek(position)
                num_read = file.readinto(part.data.cast("B"))
                assert num_read == part.nbytes, (key, num_read, part.nbytes)

    def _parts(self, key: str, slots: Sequence[np.ndarray], array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Place in the file, and the array's view, of every stretch of consecutive slots."""
        for stream, ascending in enumerate(slots):
            for start, stop in _runs(ascending):
                yield (stream * self.rows + start) * self.columns[key].nbytes, array[stream, start:stop]

    def _path(self, key: str) -> Path:
        return self.directory / f"{quote(key, safe='')}.bin"

    def _nbytes(self, key: str) -> int:
        return self.num_streams * self.rows * self.columns[key].nbytes


def _runs(slots: np.ndarray) -> Iterator[tuple[int, int]]:
    """Stretches [start, stop) of consecutive numbers in an ascending array."""
    for run in np.split(slots, np.flatnonzero(np.diff(slots) != 1) + 1):
        if len(run):
            yield int(run[0]), int(run[-1]) + 1

"""The raw files of replay, one per column, and how their bytes get to the disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil

from dreamer.data.storage import Column, gigabytes

BINARY = getattr(os, "O_BINARY", 0)  # Windows would translate line ends
NO_ROOM = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
Write = Callable[[str, np.ndarray, np.ndarray], None]
CANNOT_RESERVE = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class ColumnFiles:
    """One raw file per column, each an array [num_streams, rows, ...]; memory-mapped, or written in place.

    A place is the number of a slot over all streams: stream * rows + slot.
    """

    def __init__(self, directory: Path, columns: Mapping[str, Column], num_streams: int, rows: int) -> None:
        self.directory, self.columns = directory, columns
        self.num_streams, self.rows = num_streams, rows

    def create(self, keys: Iterable[str], is_reserved: bool) -> None:
        """Empty files of full size: with their space on disk, or on file systems that can, taken as rows arrive.

        ValueError where the space is not there; no file is left then.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        made: list[Path] = []
        try:
            for key in keys:
                made.append(self._path(key))
                with open(made[-1], "wb") as file:
                    file.truncate(self.nbytes(key))
            if is_reserved:
                self.reserve()
            for directory in (self.directory, self.directory.parent):
                sync(directory)  # the names too
        except (OSError, ValueError):
            for path in made:
                path.unlink(missing_ok=True)
            raise

    def reserve(self) -> None:
        """Take the space of all files: a store into a map that finds none later would kill the process.

        What is in the files stays. ValueError where the space is not there.
        """
        for key in self.columns if hasattr(os, "posix_fallocate") else ():
            with open(self._path(key), "r+b") as file:
                try:
                    os.posix_fallocate(file.fileno(), 0, self.nbytes(key))
                except OSError as error:
                    if error.errno in CANNOT_RESERVE:
                        continue
                    if error.errno not in NO_ROOM:
                        raise
                    need = gigabytes(sum(self.nbytes(each) for each in self.columns))
                    raise ValueError(
                        f"replay.storage=disk needs {need} in {self.directory}, where {_free(self.directory)} are "
                        "left; make room, or choose a smaller replay.capacity or another run_dir."
                    ) from error

    def check_sizes(self) -> None:
        """ValueError where a file is missing or of another size."""
        for key in self.columns:
            path = self._path(key)
            if not path.is_file():
                raise ValueError(f"The replay file {path} is missing; the run cannot be resumed without it.")
            if path.stat().st_size != self.nbytes(key):
                raise ValueError(
                    f"The replay file {path} has {path.stat().st_size} bytes, expected {self.nbytes(key)}; "
                    f"it belongs to another replay.capacity, env.num_envs or model."
                )

    def map(self, key: str) -> np.memmap:
        column = self.columns[key]
        shape = (self.num_streams, self.rows, *column.shape)
        return np.memmap(self._path(key), dtype=column.dtype, mode="r+", shape=shape)

    @contextmanager
    def writing(self) -> Iterator[Write]:
        """Yields write(key, places [n], bytes [n, nbytes]); at the end, waits until all of it is on the disk."""
        files: dict[str, int] = {}

        def write(key: str, places: np.ndarray, data: np.ndarray) -> None:
            path, size = self._path(key), self.columns[key].nbytes
            if key not in files:
                files[key] = os.open(path, os.O_RDWR | BINARY)
            for start, stop in _runs(places):
                os.lseek(files[key], int(places[start]) * size, os.SEEK_SET)
                write_all(files[key], _view(np.ascontiguousarray(data[start:stop])), path)

        try:
            yield write
            for file in files.values():
                os.fsync(file)
        finally:
            for file in files.values():
                os.close(file)

    def read(self, key: str, places: np.ndarray) -> np.ndarray:
        """The bytes [n, nbytes] at `places` [n]."""
        data = np.empty((len(places), self.columns[key].nbytes), np.uint8)
        with open(self._path(key), "rb", buffering=0) as file:
            for start, stop in _runs(places):
                file.seek(int(places[start]) * data.shape[1])
                rest = _view(data[start:stop])
                while rest:
                    num_read = file.readinto(rest)
                    assert num_read, (key, start, len(rest))
                    rest = rest[num_read:]
        return data

    def nbytes(self, key: str) -> int:
        return self.num_streams * self.rows * self.columns[key].nbytes

    def _path(self, key: str) -> Path:
        return self.directory / f"{quote(key, safe='')}.bin"


def write_all(file: int, data: memoryview, path: Path) -> None:
    """Write to an open file; where that fails, the OSError also says what for, and how much room there is."""
    rest = data
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: replay has {gigabytes(len(rest))} more to write, {_free(path.parent)} are free; "
            "the checkpoints before are whole",
            str(path),
        ) from error


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no directory
    file = os.open(path, (os.O_RDONLY if path.is_dir() else os.O_RDWR) | BINARY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _view(data: np.ndarray) -> memoryview:
    return data.data.cast("B") if data.size else memoryview(b"")


def _free(directory: Path) -> str:
    return gigabytes(psutil.disk_usage(str(directory)).free)


def _runs(places: np.ndarray) -> Iterator[tuple[int, int]]:
    """Stretches [start, stop) of the array in which the places are consecutive."""
    if len(places):
        cuts = [0, *(np.flatnonzero(np.diff(places) != 1) + 1).tolist(), len(places)]
        yield from pairwise(cuts)

"""Files of a run that are whole or not there after a crash, and the disk that is full, in a line."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from dreamer.data.saving.column_files import NO_ROOM, sync
from dreamer.data.storage import gigabytes
from dreamer.saved.whole_file import replacing


class DiskFull(OSError):
    """No space is left for a file of the run, or the user's share of it is used up. Its message names the file."""


def full_disk(error: BaseException | None) -> OSError | None:
    """What a full disk raised, where `error` comes of that: DiskFull, if the file is known, else the system's error.

    torch and Lightning put errors of their own on top of the system's.
    """
    found: OSError | None = None
    seen: list[BaseException] = []  # an error raised again while it is handled can be its own context
    while error is not None and error not in seen:
        if isinstance(error, DiskFull):
            return error
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            found = error
        seen.append(error)
        error = error.__cause__ or error.__context__
    return found


@contextmanager
def writing(path: Path, nbytes: int | None = None) -> Iterator[None]:
    """Names `path`, and how many bytes it takes where that is known, if the disk is full inside."""
    try:
        yield
    except Exception as error:
        full = full_disk(error)
        if full is None or isinstance(full, DiskFull):
            raise
        raise DiskFull(full.errno, describe_full(path, nbytes, full.strerror or str(full))) from error


def check_room(path: Path, nbytes: int) -> None:
    """DiskFull, before anything is written, where a new file `path` of `nbytes` has no room."""
    if psutil.disk_usage(str(path.parent)).free < nbytes:
        raise DiskFull(errno.ENOSPC, describe_full(path, nbytes, os.strerror(errno.ENOSPC)))


def describe_full(path: Path, nbytes: int | None, reason: str) -> str:
    where = next(parent for parent in path.absolute().parents if parent.exists())
    need = "" if nbytes is None else f"it needs {gigabytes(nbytes)}, and "
    return f"{path} cannot be written ({reason}): {need}{gigabytes(psutil.disk_usage(str(where)).free)} are free"


def write_whole(path: Path, data: bytes) -> None:
    """A file with this content, or the one that was there before."""
    with writing(path, len(data)), replacing(path) as part, part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
    sync(path.parent)

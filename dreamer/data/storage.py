"""What a row of replay is made of, and the memory or disk that rows need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from dreamer.envs.soundness import LARGEST_REWARD
from dreamer.types import Space

LATENTS = ("deter", "stoch")
OBS_PREFIX = "obs."
FLOAT_LIMIT = float(np.finfo(np.float32).max)
RAM_SHARE = 0.5  # of the available memory that `auto` may take: the networks need the rest
PLACE_NBYTES = 8  # where a latent that can be brought back belongs
DISK_SHARE = 0.95  # of the free disk: the checkpoints and logs need the rest


class Column(NamedTuple):
    """Shape and numpy type of one entry of a row, and the values that it may hold.

    classes: of a column of class indices, how many there are for each entry; limit: of floats, the largest magnitude.
    """

    shape: tuple[int, ...]
    dtype: str
    classes: tuple[int, ...] = ()
    limit: float = FLOAT_LIMIT

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


# What replay adds to the columns of a row: its number + 1 (0: nothing yet), and the digests of its parts.
ROW_ID, ROW_DIGEST, LATENT_DIGEST = "row_id", "row_digest", "latent_digest"
OWN_COLUMNS = {
    ROW_ID: Column((), "int64"),
    ROW_DIGEST: Column((), "uint32"),
    LATENT_DIGEST: Column((), "uint32"),
}


def columns_of(
    obs_space: Mapping[str, Space], action_space: Space, deter: int, stoch: int, classes: int | None = None
) -> dict[str, Column]:
    """The columns of a row: observations as `obs.<key>`, action, reward, flags and the latent.

    deter: D; stoch: S, the number of groups, each stored as the index of one of K classes, where K is told.
    """
    return {
        **{OBS_PREFIX + key: Column(space.shape, space.dtype, space.classes) for key, space in obs_space.items()},
        "action": Column(action_space.shape, action_space.dtype, action_space.classes),
        "reward": Column((), "float32", limit=LARGEST_REWARD),
        "is_first": Column((), "bool"),
        "is_last": Column((), "bool"),
        "is_terminal": Column((), "bool"),
        "deter": Column((deter,), "float32"),
        "stoch": Column((stoch,), "int16", (classes,) * stoch if classes else ()),
    }


def nbytes_of(columns: Mapping[str, Column], capacity: int) -> int:
    """Bytes that `capacity` rows take, in memory as in the files."""
    return capacity * sum(column.nbytes for column in [*columns.values(), *OWN_COLUMNS.values()])


def undo_nbytes_of(columns: Mapping[str, Column], capacity: int) -> int:
    """Bytes on disk for going back to the two checkpoints that are kept: the latents of all rows, once for each.

    Once the ring is full, the rows collected since the older of the two come on top, as they take the place of others.
    """
    latents = [column.nbytes for key, column in columns.items() if key in LATENTS]
    return 2 * capacity * (sum(latents) + OWN_COLUMNS[LATENT_DIGEST].nbytes + PLACE_NBYTES) if latents else 0


def choose_storage(storage: str, columns: Mapping[str, Column], capacity: int, directory: Path | str) -> str:
    """`ram` or `disk` for replay.storage=auto|ram|disk; ValueError when `capacity` rows do not fit there.

    A checkpoint mirrors rows in memory to `directory`, so `ram` needs the space on disk as well. On disk there must
    also be room for what the checkpoints before need.
    """
    need = nbytes_of(columns, capacity)
    memory, disk = available_memory(), int(free_disk(Path(directory)) * DISK_SHARE)
    if storage == "auto":
        storage = "ram" if need <= memory * RAM_SHARE else "disk"
    undo = undo_nbytes_of(columns, capacity)
    if need + undo <= disk and (storage == "disk" or need <= memory):
        return storage
    row = nbytes_of(columns, 1)
    largest = disk // (row + undo_nbytes_of(columns, 1))
    if storage == "ram":
        largest = min(largest, memory // row)
    apart = f" and {gigabytes(undo)} on disk for its checkpoints" if undo else ""
    raise ValueError(
        f"replay.capacity={capacity} needs {gigabytes(need)}{apart} with replay.storage={storage}, but "
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
    files = chain(directory.glob("*.bin"), directory.glob("undo.*"))
    return psutil.disk_usage(str(parent)).free + sum(_bytes_on_disk(file) for file in files)


def _bytes_on_disk(file: Path) -> int:
    stat = file.stat()
    return (
        stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    )  # sparse files take less than their size


def gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e8 else f"{nbytes / 1e6:.1f} MB"

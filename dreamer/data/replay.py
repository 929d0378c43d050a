"""The replay buffer: a ring of rows per environment, from which sequences are drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamer.data.storage import LATENTS, ROW_ID, Column, ColumnFiles


class Replay:
    """First in, first out over `capacity` rows; one preallocated array [num_streams, rows, ...] per column.

    A stream is what one environment produced, and its rows are numbered t = 0, 1, 2, ... for ever; row t lies in slot
    t % rows. A sequence is `length` consecutive rows of one stream and may cross the ends of episodes: every start
    whose rows are all stored is one item. A batch takes fresh sequences first (the online queue: per stream 1..length,
    length+1..2*length, ... in the order of completion), then draws the rest uniformly over all items.

    Rows live in memory (`ram`) or in memory-mapped files (`disk`). `save` brings the files in `directory` up to date,
    `state_dict` holds the little that is not in them; both storages read each other's files.
    Differs from the authors' code: capacity counts rows, not items.
    """

    def __init__(
        self,
        columns: Mapping[str, Column],
        capacity: int,
        length: int,
        num_streams: int,
        storage: str,
        directory: Path,
        seed: int,
        online: bool = True,
    ) -> None:
        assert storage in ("ram", "disk"), storage
        assert {"is_first", "is_last"} <= set(columns), list(columns)
        self.length, self.num_streams = length, num_streams
        self.rows = capacity // num_streams
        if self.rows < length:
            raise ValueError(
                f"replay.capacity={capacity} must be at least {num_streams * length}: "
                f"batch_length + 1 = {length} rows for each of env.num_envs={num_streams}."
            )
        self.columns = {**columns, ROW_ID: Column((), "int64")}
        self.storage, self.online = storage, online
        self._latents = [key for key in LATENTS if key in columns]
        self._files = ColumnFiles(Path(directory), self.columns, num_streams, self.rows)
        self._arrays: dict[str, np.ndarray] = {}
        self._maps: dict[str, np.memmap] = {}
        self._next = [0] * num_streams  # number of the row that comes next
        self._oldest = [0] * num_streams  # first row that is still stored
        self._saved: list[int] | None = None  # ram: rows up to here are in the files; None while there are no files
        self._changed = np.zeros((num_streams, self.rows), bool)  # ram: latents written back since they were saved
        self._queue: deque[tuple[int, int]] = deque()  # (stream, start)
        self._random = np.random.default_rng(seed)

    @property
    def num_rows(self) -> int:
        return sum(self._next) - sum(self._oldest)

    @property
    def num_items(self) -> int:
        return int(self._num_starts().sum())

    @property
    def num_queued(self) -> int:
        """Fresh sequences that the next batches will begin with."""
        return len(self._queue)

    def add(self, stream: int, row: Mapping[str, Any]) -> None:
        """Append one row, an entry for every column; it takes the place of the oldest once the ring is full."""
        if not self._arrays:
            self._allocate()
        t = self._next[stream]
        slot = t % self.rows
        if t == 0:  # later rows are as the first: this one's shapes are checked, since numpy would broadcast others
            self._check_row(row)
        # 0 while the row is half written, so that a process killed here leaves no row of mixed parts behind.
        self._arrays[ROW_ID][stream, slot] = 0
        for key, value in row.items():
            self._arrays[key][stream, slot] = value
        self._arrays[ROW_ID][stream, slot] = t + 1
        self._next[stream] = t + 1
        self._oldest[stream] = max(self._oldest[stream], t + 1 - self.rows)
        if self.online and t > 0 and t % self.length == 0:
            self._queue.append((stream, t - self.length + 1))
        while self._queue and self._is_evicted(self._queue[0]):
            self._queue.popleft()

    def end_episode(self, stream: int) -> None:
        """Mark the newest row as the last of its episode, where the environment cannot continue it."""
        t = self._next[stream] - 1
        if t >= self._oldest[stream]:
            self._arrays["is_last"][stream, t % self.rows] = True
            if self._saved is not None:
                self._saved[stream] = min(self._saved[stream], t)

    def sample(self, batch_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Sequences as column -> [B length ...], and their row ids [B 2]: (stream, number of the second row).

        The first row of a sequence is marked is_first, and every row before a later is_first is_last (an episode that
        was left unfinished). The second row is the first one trained: the row before it is its context.
        """
        streams, starts = self._draw(batch_size)
        t = starts[:, None] + np.arange(self.length)
        index = streams[:, None] * self.rows + t % self.rows
        rows = {
            key: array.reshape(-1, *array.shape[2:]).take(index, axis=0)
            for key, array in self._arrays.items()
            if key != ROW_ID
        }
        rows["is_last"][:, :-1] |= rows["is_first"][:, 1:]
        rows["is_first"][:, 0] = True
        return rows, np.stack([streams, starts + 1], axis=1)

    def column(self, key: str) -> np.ndarray:
        """A copy of one column over all rows that are stored [N ...], stream by stream, in the order of their slots."""
        array, ends = self._arrays[key], zip(self._oldest, self._next, strict=True)
        return np.concatenate([array[stream, self._slots(*end)] for stream, end in enumerate(ends)])

    def write_back(
        self, row_ids: Int[np.ndarray, "B 2"], deter: Float[np.ndarray, "B T D"], stoch: Int[np.ndarray, "B T S"]
    ) -> None:
        """Replace the latents of rows t, t+1, ... where row_ids are (stream, t); evicted rows are skipped."""
        t = row_ids[:, 1:] + np.arange(deter.shape[1])
        streams = np.broadcast_to(row_ids[:, :1], t.shape)
        kept = (t >= np.array(self._oldest)[streams]) & (t < np.array(self._next)[streams])
        streams, slots = streams[kept], t[kept] % self.rows
        self._arrays["deter"][streams, slots] = deter[kept]
        self._arrays["stoch"][streams, slots] = stoch[kept]
        self._changed[streams, slots] = True

    def save(self) -> None:
        """Bring the files up to date; in memory, only what came or changed since the last call is written."""
        if not self._arrays:
            self._allocate()
        if self.storage == "disk":
            for array in self._maps.values():
                array.flush()
            return
        if self._saved is None:
            self._files.create()
            self._saved = [0] * self.num_streams
        self._write_files(self._saved)
        self._saved = list(self._next)
        self._changed[:] = False

    def state_dict(self) -> dict[str, Any]:
        """Plain values only. The rows themselves are in the files as of the last `save`."""
        return {
            "layout": self._layout(),
            "next": list(self._next),
            "oldest": list(self._oldest),
            "queue": [list(entry) for entry in self._queue],
            "random": self._random.bit_generator.state,
        }

    def keep(self, generation: int) -> None:
        """Forget what only states before this generation need: nothing so far, since the files hold no older rows."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state` and the files: newer rows are dropped, rows since overwritten count as evicted.

        A run on disk that was killed had written back latents after its checkpoint; these stay, as good as the older.
        """
        self._check_layout(state["layout"])
        self._random.bit_generator.state = state["random"]
        self._next, self._oldest = list(state["next"]), list(state["oldest"])
        self._queue = deque((stream, start) for stream, start in state["queue"])
        if not any(self._next):
            return
        self._files.check()
        ids = self._files.map(ROW_ID)
        for stream in range(self.num_streams):
            self._oldest[stream] = self._oldest_intact(stream, np.asarray(ids[stream]))
        if self.storage == "disk":
            self._map_files()
        else:
            self._allocate()
            self._saved = list(self._next)
            slots = [self._slots(oldest, after) for oldest, after in zip(self._oldest, self._next, strict=True)]
            for key, array in self._arrays.items():
                self._files.read(key, slots, array)
        self._queue = deque(entry for entry in self._queue if not self._is_evicted(entry))

    def _check_row(self, row: Mapping[str, Any]) -> None:
        got = {key: np.shape(value) for key, value in row.items()}
        expected = {key: column.shape for key, column in self.columns.items() if key != ROW_ID}
        assert got == expected, (got, expected)

    def _allocate(self) -> None:
        """Empty arrays. Late, at the first row, because it clears the files that a resumed run still needs."""
        if self.storage == "disk":
            self._files.create()
            self._map_files()
            return
        for key, column in self.columns.items():
            # The system hands out zeroed memory page by page, as rows arrive.
            self._arrays[key] = np.zeros((self.num_streams, self.rows, *column.shape), column.dtype)

    def _map_files(self) -> None:
        self._maps = {key: self._files.map(key) for key in self.columns}
        self._arrays = {key: np.asarray(array) for key, array in self._maps.items()}

    def _num_starts(self) -> np.ndarray:
        return np.maximum(np.array(self._next) - np.array(self._oldest) - self.length + 1, 0)

    def _is_evicted(self, entry: tuple[int, int]) -> bool:
        stream, start = entry
        return start < self._oldest[stream]

    def _draw(self, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
        """Stream and start of each sequence, [B] each: the online queue first, then uniformly over all items."""
        fresh: list[tuple[int, int]] = []
        while self._queue and len(fresh) < batch_size:
            entry = self._queue.popleft()
            if not self._is_evicted(entry):
                fresh.append(entry)
        taken = np.array(fresh, int).reshape(-1, 2)
        if len(fresh) == batch_size:
            return taken[:, 0], taken[:, 1]
        ends = self._num_starts().cumsum()
        assert ends[-1] > 0, "replay holds no sequence yet"
        items = self._random.integers(ends[-1], size=batch_size - len(fresh))
        streams = np.searchsorted(ends, items, side="right")
        starts = items - ends[streams] + np.array(self._next)[streams] - self.length + 1
        return np.concatenate([taken[:, 0], streams]), np.concatenate([taken[:, 1], starts])

    def _slots(self, start: int, stop: int) -> np.ndarray:
        """Slots of rows [start, stop), ascending."""
        return np.sort(np.arange(start, stop) % self.rows)

    def _write_files(self, saved: list[int]) -> None:
        """Write what is newer than row saved[stream], and the latents that were written back."""
        added = [
            self._slots(max(done, oldest), after)
            for done, oldest, after in zip(saved, self._oldest, self._next, strict=True)
        ]
        changed = [np.union1d(new, np.flatnonzero(old)) for new, old in zip(added, self._changed, strict=True)]
        # The ids go first as 0 and last as they are: new rows that a killed save leaves half written are then known
        # as such. Latents that were refreshed may be half old then, until they are drawn again.
        self._files.write(ROW_ID, added, np.zeros_like(self._arrays[ROW_ID]))
        for key in self.columns:
            if key != ROW_ID:
                self._files.write(key, changed if key in self._latents else added, self._arrays[key])
        self._files.write(ROW_ID, added, self._arrays[ROW_ID])

    def _oldest_intact(self, stream: int, ids: np.ndarray) -> int:
        """First row from which on the files hold every row up to the cursor; ids [rows] are the files' own, plus 1."""
        t = np.arange(self._oldest[stream], self._next[stream])
        held = ids[t % self.rows] - 1
        if len(t) and ids.max() - 1 < t[-1]:
            raise ValueError(
                f"The replay files in {self._files.directory} are older than the checkpoint: "
                f"row {t[-1]} of environment {stream} is missing."
            )
        lost = np.flatnonzero(held != t)
        return int(t[lost[-1]]) + 1 if len(lost) else self._oldest[stream]

    def _layout(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "num_streams": self.num_streams,
            "length": self.length,
            "columns": {key: [list(column.shape), column.dtype] for key, column in self.columns.items()},
        }

    def _check_layout(self, saved: dict[str, Any]) -> None:
        """ValueError that says in the user's words what differs from the replay of the checkpoint."""
        now = self._layout()
        names = {"rows": "rows per environment (replay.capacity / env.num_envs)", "num_streams": "env.num_envs"}
        names["length"] = "batch_length + 1"
        differ = [f"{name} was {saved[key]}, now {now[key]}" for key, name in names.items() if saved[key] != now[key]]
        for key in sorted(set(saved["columns"]) | set(now["columns"])):
            was, is_now = saved["columns"].get(key), now["columns"].get(key)
            if was != is_now:
                differ.append(f"{key} was {_described(was)}, now {_described(is_now)}")
        if differ:
            raise ValueError(f"The replay of the checkpoint does not fit this run: {'; '.join(differ)}.")


def _described(column: list[Any] | None) -> str:
    return "absent" if column is None else f"{column[1]} {column[0]}"

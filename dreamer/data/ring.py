"""The rows of replay: a ring per environment, from which sequences are drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamer import ranks
from dreamer.data.storage import ROW_ID, Column


class Ring(ABC):
    """First in, first out over `capacity` rows; one preallocated array [num_streams, rows, ...] per column.

    A stream is what one environment produced, and its rows are numbered t = 0, 1, 2, ... for ever; row t lies in slot
    t % rows. A sequence is `length` consecutive rows of one stream and may cross the ends of episodes: every start
    whose rows are all stored is one item. A batch takes fresh sequences first (the online queue: per stream 1..length,
    length+1..2*length, ... in the order of completion), then draws the rest uniformly over all items.

    Differs from the authors' code: capacity counts rows, not items. Where the arrays live, and what is kept of a row
    before it is overwritten, is the matter of `Replay`.
    """

    def __init__(
        self, columns: Mapping[str, Column], capacity: int, length: int, num_streams: int, seed: int, online: bool
    ) -> None:
        assert {"is_first", "is_last"} <= set(columns), list(columns)
        self.length, self.num_streams = length, num_streams
        self.rows = capacity // num_streams
        if self.rows < length:
            raise ValueError(
                f"replay.capacity={capacity} must be at least {num_streams * length}: "
                f"batch_length + 1 = {length} rows for each of env.num_envs={num_streams}."
            )
        self.columns, self.online = columns, online
        self._next = [0] * num_streams  # number of the row that comes next
        self._oldest = [0] * num_streams  # first row that is still stored
        self._damaged = [np.zeros(0, int)] * num_streams  # numbers of stored rows that must not be drawn, ascending
        self._queue: deque[tuple[int, int]] = deque()  # (stream, start)
        self._random = np.random.default_rng(ranks.seed_of(seed))

    @property
    @abstractmethod
    def _arrays(self) -> dict[str, np.ndarray]:
        """Column -> [num_streams, rows, ...], and the number of each row + 1 as ROW_ID; empty before the first row."""

    @abstractmethod
    def _allocate(self) -> None: ...

    @abstractmethod
    def _note_row(self, stream: int, t: int) -> None:
        """Row t is about to be overwritten or changed."""

    @abstractmethod
    def _mark_row(self, stream: int, t: int) -> None:
        """Row t was changed after it came, so the next save must write it."""

    @abstractmethod
    def _note_latents(self, streams: np.ndarray, t: np.ndarray) -> None:
        """The latents of rows t [n] of `streams` [n] are about to be overwritten."""

    @property
    def num_rows(self) -> int:
        return sum(self._next) - sum(self._oldest)

    @property
    def num_items(self) -> int:
        return int(self._num_starts(self._stretches()).sum())

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
        self._note_row(stream, t - self.rows)
        for key, value in row.items():
            self._arrays[key][stream, slot] = value
        self._arrays[ROW_ID][stream, slot] = t + 1
        self._next[stream] = t + 1
        self._oldest[stream] = max(self._oldest[stream], t + 1 - self.rows)
        if self._damaged[stream].size and self._damaged[stream][0] < self._oldest[stream]:
            self._damaged[stream] = self._damaged[stream][1:]
        if self.online and t > 0 and t % self.length == 0 and self._is_whole(stream, t - self.length + 1):
            self._queue.append((stream, t - self.length + 1))
        while self._queue and self._is_evicted(self._queue[0]):
            self._queue.popleft()

    def copy_stream(self, stream: int, source: Ring, theirs: int) -> None:
        """Append the rows that another ring has of its stream `theirs`, from behind the last one that is damaged."""
        damaged = source._damaged[theirs]
        first = int(damaged[-1]) + 1 if damaged.size else source._oldest[theirs]
        for t in range(first, source._next[theirs]):
            self.add(stream, {key: source._arrays[key][theirs, t % source.rows] for key in self.columns})

    def forget_fresh(self) -> None:
        """No sequence that is stored by now counts as fresh."""
        self._queue.clear()

    def end_episode(self, stream: int) -> None:
        """Mark the newest row as the last of its episode, where the environment cannot continue it."""
        t = self._next[stream] - 1
        is_last = self._arrays["is_last"][stream] if t >= self._oldest[stream] else None
        if is_last is None or is_last[t % self.rows] or t in self._damaged[stream]:
            return
        self._note_row(stream, t)
        is_last[t % self.rows] = True
        self._mark_row(stream, t)

    def sample(self, batch_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Sequences as column -> [B length ...], and their row ids [B 2]: (stream, number of the second row).

        The second row is the first one trained: the row before it is its context, marked is_first as the authors'
        replay does, which training does not read. Every row before a later is_first is marked is_last (an episode that
        was left unfinished).
        """
        streams, starts = self._draw(batch_size)
        t = starts[:, None] + np.arange(self.length)
        index = streams[:, None] * self.rows + t % self.rows
        arrays = {key: self._arrays[key] for key in self.columns}
        rows = {key: array.reshape(-1, *array.shape[2:]).take(index, axis=0) for key, array in arrays.items()}
        rows["is_last"][:, :-1] |= rows["is_first"][:, 1:]
        rows["is_first"][:, 0] = True
        return rows, np.stack([streams, starts + 1], axis=1)

    def column(self, key: str) -> np.ndarray:
        """A copy of one column over all rows that may be drawn [N ...], stream by stream, in the order of slots."""
        array, taken = self._arrays[key], []
        for stream, (oldest, after) in enumerate(zip(self._oldest, self._next, strict=True)):
            t = np.setdiff1d(np.arange(oldest, after), self._damaged[stream])
            taken.append(array[stream, np.sort(t % self.rows)])
        return np.concatenate(taken)

    def write_back(
        self, row_ids: Int[np.ndarray, "B 2"], deter: Float[np.ndarray, "B T D"], stoch: Int[np.ndarray, "B T S"]
    ) -> None:
        """Replace the latents of rows t, t+1, ... where row_ids are (stream, t); evicted rows are skipped."""
        t = row_ids[:, 1:] + np.arange(deter.shape[1])
        streams = np.broadcast_to(row_ids[:, :1], t.shape)
        kept = (t >= np.array(self._oldest)[streams]) & (t < np.array(self._next)[streams])
        streams, slots = streams[kept], t[kept] % self.rows
        self._note_latents(streams, t[kept])
        self._arrays["deter"][streams, slots] = deter[kept]
        self._arrays["stoch"][streams, slots] = stoch[kept]

    def _check_row(self, row: Mapping[str, Any]) -> None:
        got = {key: np.shape(value) for key, value in row.items()}
        expected = {key: column.shape for key, column in self.columns.items()}
        assert got == expected, (got, expected)

    def _stretches(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Stretches of rows that may be drawn: stream, first row, and the one after the last, [n] each."""
        if not any(damaged.size for damaged in self._damaged):
            return np.arange(self.num_streams), np.array(self._oldest), np.array(self._next)
        cuts = [damaged.size + 1 for damaged in self._damaged]
        begins = [part for at, cut in zip(self._oldest, self._damaged, strict=True) for part in ([at], cut + 1)]
        ends = [part for at, cut in zip(self._next, self._damaged, strict=True) for part in (cut, [at])]
        return np.repeat(np.arange(self.num_streams), cuts), np.concatenate(begins), np.concatenate(ends)

    def _num_starts(self, stretches: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
        """How many sequences lie in each stretch."""
        _, begins, ends = stretches
        return np.maximum(ends - begins - self.length + 1, 0)

    def _is_evicted(self, entry: tuple[int, int]) -> bool:
        stream, start = entry
        return start < self._oldest[stream]

    def _is_whole(self, stream: int, start: int) -> bool:
        """Whether a sequence holds no row that must not be drawn."""
        first, after = np.searchsorted(self._damaged[stream], [start, start + self.length])
        return bool(first == after)

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
        stretches = self._stretches()
        ends = self._num_starts(stretches).cumsum()
        assert ends[-1] > 0, "replay holds no sequence yet"
        items = self._random.integers(ends[-1], size=batch_size - len(fresh))
        drawn = np.searchsorted(ends, items, side="right")
        streams, starts = stretches[0][drawn], items - ends[drawn] + stretches[2][drawn] - self.length + 1
        return np.concatenate([taken[:, 0], streams]), np.concatenate([taken[:, 1], starts])

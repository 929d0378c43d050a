"""The replay buffer: a ring of rows per environment, from which sequences are drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dreamer.data.saving.row_store import LATENTS, ROWS, RowStore
from dreamer.data.storage import OWN_COLUMNS, ROW_ID, Column


class Replay:
    """First in, first out over `capacity` rows; one preallocated array [num_streams, rows, ...] per column.

    A stream is what one environment produced, and its rows are numbered t = 0, 1, 2, ... for ever; row t lies in slot
    t % rows. A sequence is `length` consecutive rows of one stream and may cross the ends of episodes: every start
    whose rows are all stored is one item. A batch takes fresh sequences first (the online queue: per stream 1..length,
    length+1..2*length, ... in the order of completion), then draws the rest uniformly over all items.

    Rows live in memory (`ram`) or in memory-mapped files (`disk`). `save` brings the files in `directory` up to date,
    `state_dict` holds the little that is not in them; both storages read each other's files. A state brings back
    exactly the rows and latents of its save, until `keep` lets go of it. Rows that were damaged are never drawn.
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
        self.columns, self.storage, self.online = columns, storage, online
        self._store = RowStore(columns, num_streams, self.rows, storage, Path(directory))
        self._next = [0] * num_streams  # number of the row that comes next
        self._oldest = [0] * num_streams  # first row that is still stored
        self._damaged = [np.zeros(0, int)] * num_streams  # numbers of stored rows that must not be drawn, ascending
        self._saved = list(zip(self._oldest, self._next, strict=True))  # the rows [oldest, next) of the newest save
        self._done = [0] * num_streams  # rows before this one are as the newest save has them
        self._changed = np.zeros((num_streams, self.rows), bool)  # latents written back since the newest save
        self._content = 0  # what RowStore.content gave for the newest save
        self._queue: deque[tuple[int, int]] = deque()  # (stream, start)
        self._random = np.random.default_rng(seed)

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
            self._store.allocate()
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

    def end_episode(self, stream: int) -> None:
        """Mark the newest row as the last of its episode, where the environment cannot continue it."""
        t = self._next[stream] - 1
        is_last = self._arrays["is_last"][stream] if t >= self._oldest[stream] else None
        if is_last is None or is_last[t % self.rows] or t in self._damaged[stream]:
            return
        self._note_row(stream, t)
        is_last[t % self.rows] = True
        self._done[stream] = min(self._done[stream], t)

    def sample(self, batch_size: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Sequences as column -> [B length ...], and their row ids [B 2]: (stream, number of the second row).

        The first row of a sequence is marked is_first, and every row before a later is_first is_last (an episode that
        was left unfinished). The second row is the first one trained: the row before it is its context.
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
        if self._store.is_mapped:
            after = np.array([after for _, after in self._saved])
            is_new = ~self._changed[streams, slots] & (t[kept] < after[streams])
            self._store.note(LATENTS, np.unique((streams * self.rows + slots)[is_new]))
        self._arrays["deter"][streams, slots] = deter[kept]
        self._arrays["stoch"][streams, slots] = stoch[kept]
        self._changed[streams, slots] = True

    def save(self) -> None:
        """Bring the files up to date; what they do not hold yet is written, and what they held stays to be had.

        Where this fails or is killed, the states of earlier saves are as good as before.
        """
        if not self._arrays:
            self._store.allocate()
        begins = [max(done, oldest) for done, oldest in zip(self._done, self._oldest, strict=True)]
        added = self._places(zip(begins, self._next, strict=True))
        changed = np.union1d(added, np.flatnonzero(self._changed))
        if not self._store.is_mapped:
            saved = self._places(self._saved)
            refreshed = np.intersect1d(changed, saved, assume_unique=True)
            self._store.note(ROWS, np.intersect1d(added, saved, assume_unique=True))
            self._store.note(LATENTS, np.setdiff1d(refreshed, added, assume_unique=True))
        self._store.save(added, changed)
        self._note_save()

    def state_dict(self) -> dict[str, Any]:
        """Plain values only. The rows themselves are in the files as of the last `save`, number `generation`."""
        return {
            "layout": self._layout(),
            "generation": self._store.generation,
            "content": self._content,
            "next": list(self._next),
            "oldest": list(self._oldest),
            "queue": [list(entry) for entry in self._queue],
            "random": self._random.bit_generator.state,
        }

    def keep(self, generation: int) -> None:
        """Forget what only states of saves before `generation` would need."""
        self._store.keep(generation)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state` and the files, which go back to the save that the state is of.

        What is damaged there, or was lost, is told in a line and never drawn. States of later saves are void.
        """
        self._check_layout(state["layout"])
        self._random.bit_generator.state = state["random"]
        self._next, self._oldest = list(state["next"]), list(state["oldest"])
        self._queue = deque((stream, start) for stream, start in state["queue"])
        is_older = "generation" not in state  # written before there were digests and undo logs
        if not any(self._next):
            self._store.generation = state.get("generation", 0)
            return
        stored = self._places(zip(self._oldest, self._next, strict=True))
        problems = self._store.load(state.get("generation", 0), not is_older, stored)
        problems += [problem for stream in range(self.num_streams) if (problem := self._find_damage(stream))]
        self._queue = deque(entry for entry in self._queue if self._is_whole(*entry))
        self._note_save()
        if not is_older and self._content != state["content"]:
            problems.append("rows or latents are not all those that the checkpoint saved")
        if problems:
            print(f"Replay in {self._store.directory}: {'; '.join(problems)}.", flush=True)

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        return self._store.arrays

    def _check_row(self, row: Mapping[str, Any]) -> None:
        got = {key: np.shape(value) for key, value in row.items()}
        expected = {key: column.shape for key, column in self.columns.items()}
        assert got == expected, (got, expected)

    def _note_row(self, stream: int, t: int) -> None:
        """Row t is about to be overwritten: in a map its content goes to the undo log, if it belongs to a save."""
        oldest, after = self._saved[stream]
        if self._store.is_mapped and oldest <= t < after:
            self._store.note(ROWS, np.array([stream * self.rows + t % self.rows]))

    def _note_save(self) -> None:
        """The rows are now as the newest save has them."""
        self._saved = list(zip(self._oldest, self._next, strict=True))
        self._done = list(self._next)
        self._changed[:] = False
        self._content = self._store.content(self._places(self._saved))

    def _find_damage(self, stream: int) -> str | None:
        """Keep rows that are not as they were saved from being drawn; returns what is to be said of them."""
        t = np.arange(self._oldest[stream], self._next[stream])
        damage = self._store.damage(stream * self.rows + t % self.rows, t)
        self._damaged[stream] = np.array(sorted(damage), int)
        if not damage:
            return None
        first, count = min(damage), len(damage)
        rows = "1 row" if count == 1 else f"{count:,} rows"
        return f"{rows} of environment {stream} will not be drawn (row {first}: {damage[first]})"

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

    def _places(self, ranges: Iterable[tuple[int, int]]) -> np.ndarray:
        """Where rows [start, stop) of each stream lie, as a number over all slots; in the order of the rows."""
        places = [i * self.rows + np.arange(start, stop) % self.rows for i, (start, stop) in enumerate(ranges)]
        return np.concatenate(places)

    def _layout(self) -> dict[str, Any]:
        columns = {**self.columns, ROW_ID: OWN_COLUMNS[ROW_ID]}  # digests too, if the state has a generation
        return {
            "rows": self.rows,
            "num_streams": self.num_streams,
            "length": self.length,
            "columns": {key: [list(column.shape), column.dtype] for key, column in columns.items()},
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

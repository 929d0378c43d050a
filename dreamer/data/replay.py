"""The replay buffer: rows of experience, from which sequences are drawn, and how they outlive the process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import ranks
from dreamer.data.ring import Ring
from dreamer.data.saving.row_store import LATENTS, ROWS, RowStore
from dreamer.data.storage import OWN_COLUMNS, ROW_ID, Column


class Replay(Ring):
    """A ring of rows in memory (`ram`) or in memory-mapped files (`disk`), saved so that it can be gone back to.

    `save` brings the files in `directory` up to date, `state_dict` holds the little that is not in them; both storages
    read each other's files. A state brings back exactly the rows and latents of its save, until `keep` lets go of it.
    Rows that were damaged are never drawn.
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
        super().__init__(columns, capacity, length, num_streams, seed, online)
        self._store = RowStore(columns, num_streams, self.rows, storage, Path(directory))
        self._saved = list(zip(self._oldest, self._next, strict=True))  # the rows [oldest, next) of the newest save
        self._done = [0] * num_streams  # rows before this one are as the newest save has them
        self._refreshed = np.zeros((num_streams, self.rows), bool)  # latents written back since the newest save
        self._content = 0  # what RowStore.content gave for the newest save

    def save(self) -> None:
        """Bring the files up to date; what they do not hold yet is written, and what they held stays to be had.

        Where this fails or is killed, the states of earlier saves are as good as before.
        """
        if not self._arrays:
            self._store.allocate()
        begins = [max(done, oldest) for done, oldest in zip(self._done, self._oldest, strict=True)]
        added = self._places(zip(begins, self._next, strict=True))
        changed = np.union1d(added, np.flatnonzero(self._refreshed))
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
    def directory(self) -> Path:
        """Where the files are."""
        return self._store.directory

    @property
    def _arrays(self) -> dict[str, np.ndarray]:
        return self._store.arrays

    def _allocate(self) -> None:
        self._store.allocate()

    def _note_row(self, stream: int, t: int) -> None:
        """The undo log gets what a mapped row holds, if that belongs to a save."""
        oldest, after = self._saved[stream]
        if self._store.is_mapped and oldest <= t < after:
            self._store.note(ROWS, np.array([stream * self.rows + t % self.rows]))

    def _mark_row(self, stream: int, t: int) -> None:
        self._done[stream] = min(self._done[stream], t)

    def _note_latents(self, streams: np.ndarray, t: np.ndarray) -> None:
        slots = t % self.rows
        if self._store.is_mapped:
            after = np.array([after for _, after in self._saved])
            is_new = ~self._refreshed[streams, slots] & (t < after[streams])
            self._store.note(LATENTS, np.unique((streams * self.rows + slots)[is_new]))
        self._refreshed[streams, slots] = True

    def _note_save(self) -> None:
        """The rows are now as the newest save has them."""
        self._saved = list(zip(self._oldest, self._next, strict=True))
        self._done = list(self._next)
        self._refreshed[:] = False
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
        number = ranks.rank() * self.num_streams + stream
        return f"{rows} of environment {number} will not be drawn (row {first}: {damage[first]})"

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

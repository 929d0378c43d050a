"""Rows of replay in memory or in mapped files, saved so that every checkpoint that is kept gets back its own."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from dreamer.data.saving.column_files import ColumnFiles
from dreamer.data.saving.digests import as_bytes, digested, digests, faults
from dreamer.data.saving.undo import UndoLogs
from dreamer.data.storage import LATENT_DIGEST, OWN_COLUMNS, ROW_DIGEST, ROW_ID, Column

CHUNK_NBYTES = 4_000_000
ROWS, LATENTS = 0, 1  # what is noted before it is overwritten: whole rows, or their latents alone


class RowStore:
    """One preallocated array [num_streams, rows, ...] per column; `disk`: maps of the files, `ram`: copied at a save.

    Files are written in place. What a save had there goes to its undo log before it is overwritten for the first time:
    `disk` notes it at once, `ram` at the save that follows. A row gets its digests at the save after it came or
    changed. Saves are numbered from 1.
    """

    def __init__(
        self, columns: Mapping[str, Column], num_streams: int, rows: int, storage: str, directory: Path
    ) -> None:
        self.columns = columns
        self.is_mapped = storage == "disk"
        self.generation = 0  # number of the newest save
        self.arrays: dict[str, np.ndarray] = {}
        self._all = {**columns, **OWN_COLUMNS}
        self._digested = digested(columns)
        self._latents = [*self._digested[LATENT_DIGEST], LATENT_DIGEST]
        self._groups = (list(self._all), self._latents)
        self._files = ColumnFiles(directory, self._all, num_streams, rows)
        self._undo = UndoLogs(self._files, self._groups)
        self._maps: dict[str, np.memmap] = {}
        self._has_files = False
        self._chunk_size = max(1, CHUNK_NBYTES // sum(column.nbytes for column in self._all.values()))

    @property
    def directory(self) -> Path:
        return self._files.directory

    def allocate(self) -> None:
        """Empty arrays. Late, at the first row, because it clears the files that a resumed run still needs."""
        if self.is_mapped:
            self._create_files()
            self._map_files()
            return
        shape = (self._files.num_streams, self._files.rows)
        # The system hands out zeroed memory page by page, as rows arrive.
        self.arrays = {key: np.zeros((*shape, *column.shape), column.dtype) for key, column in self._all.items()}

    def note(self, group: int, places: np.ndarray) -> None:
        """Put what the newest save has at these places into its undo log, before it is overwritten."""
        read = self._bytes if self.is_mapped else self._files.read
        for part in self._chunks(places):
            content = {key: read(key, part) for key in self._groups[group]}
            self._undo.append(self.generation, group, part, content)

    def save(self, rows: np.ndarray, latents: np.ndarray) -> None:
        """Bring the files up to date; `rows` are the places of what came, `latents` of what was refreshed."""
        self._stamp(ROW_DIGEST, rows)
        self._stamp(LATENT_DIGEST, latents)
        if not self._has_files:
            self._create_files()
        self._undo.sync(self.generation)
        if self.is_mapped:
            for array in self._maps.values():
                array.flush()
        else:
            with self._files.writing() as write:
                for key in self._all:
                    for part in self._chunks(latents if key in self._latents else rows):
                        write(key, part, self._bytes(key, part))
        self.generation += 1

    def load(self, generation: int, has_digests: bool, places: np.ndarray) -> list[str]:
        """Go back to save number `generation`, whose rows lie at `places`; returns what is wrong with its logs."""
        if not has_digests:
            self._files.create((ROW_DIGEST, LATENT_DIGEST), is_reserved=False)
        self._files.check_sizes()
        problems = self._undo.restore(generation)
        self.generation, self._has_files = generation, True
        if self.is_mapped:
            self._files.reserve()
            self._map_files()
        else:
            self.allocate()
            for key, column in self._all.items():
                for part in self._chunks(places):
                    content = self._files.read(key, part).view(column.dtype)
                    self._flat(key)[part] = content.reshape(len(part), *column.shape)
        if not has_digests:
            with self._files.writing() as write:
                for digest in (ROW_DIGEST, LATENT_DIGEST):
                    self._stamp(digest, places)
                    for part in self._chunks(places):
                        write(digest, part, self._bytes(digest, part))
        return problems

    def keep(self, generation: int) -> None:
        """Forget what only saves before this one would need."""
        self._undo.drop(generation)

    def damage(self, places: np.ndarray, t: np.ndarray) -> dict[int, str]:
        """What is wrong with which of the rows number t [n] that should lie at `places` [n]."""
        found: dict[int, str] = {}
        for part, numbers in zip(self._chunks(places), self._chunks(t), strict=True):
            values = {key: self._flat(key)[part] for key in self._all}
            for what, is_wrong in faults(self.columns, values, numbers):
                for number in numbers[is_wrong].tolist():
                    found.setdefault(number, what)
        return found

    def content(self, places: np.ndarray) -> int:
        """One number that tells whether rows and latents at `places` are those of a save."""
        return zlib.crc32(np.stack([self._flat(key)[places] for key in (ROW_DIGEST, LATENT_DIGEST)]).tobytes())

    def _stamp(self, digest: str, places: np.ndarray) -> None:
        for part in self._chunks(places):
            values = [self._flat(key)[part] for key in self._digested[digest]]
            self._flat(digest)[part] = digests(self._flat(ROW_ID)[part], values)

    def _create_files(self) -> None:
        self._undo.clear()  # of a run that was started anew
        self._files.create(self._all, is_reserved=self.is_mapped)
        self._has_files = True

    def _map_files(self) -> None:
        self._maps = {key: self._files.map(key) for key in self._all}
        self.arrays = {key: np.asarray(array) for key, array in self._maps.items()}

    def _flat(self, key: str) -> np.ndarray:
        array = self.arrays[key]
        return array.reshape(-1, *array.shape[2:])

    def _bytes(self, key: str, places: np.ndarray) -> np.ndarray:
        return as_bytes(self._flat(key)[places])

    def _chunks(self, places: np.ndarray) -> Iterator[np.ndarray]:
        size = self._chunk_size
        return (places[start : start + size] for start in range(0, len(places), size))

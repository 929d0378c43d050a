"""Undo logs: what the files of replay held at a save, before it was overwritten."""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from dreamer.data.saving.column_files import BINARY, ColumnFiles, Write, sync, write_all

HEADER = struct.Struct("<4sIQII")  # mark, group, number of places, CRC of the payload, CRC of what is before
MARK = b"undo"


class Record(NamedTuple):
    """Where in a log the payload of a record begins, and what its header says."""

    position: int
    group: int
    count: int
    crc: int


class UndoLogs:
    """A log `undo.<n>` holds what save number n had in the files and what was overwritten since: a rollback journal.

    groups: the columns that one record holds, by the number of the group. The payload of a record is its places
    int64 [n] and their bytes uint8 [n, nbytes], the columns of the group side by side.
    """

    def __init__(self, files: ColumnFiles, groups: Sequence[Sequence[str]]) -> None:
        self._files, self._groups = files, groups

    def append(self, number: int, group: int, places: np.ndarray, data: Mapping[str, np.ndarray]) -> None:
        """Note the bytes (key -> [n, nbytes]) that are about to be overwritten at `places`.

        What fails is taken back. What a killed process leaves unfinished is the end of the log: nothing was overwritten
        after it.
        """
        content = np.concatenate([data[key] for key in self._groups[group]], axis=1)
        payload = places.astype("<i8").tobytes(), content.data.cast("B")
        crc = zlib.crc32(payload[1], zlib.crc32(payload[0]))
        start = HEADER.pack(MARK, group, len(places), crc, 0)[: -struct.calcsize("I")]
        record = b"".join((start, struct.pack("<I", zlib.crc32(start)), *payload))
        path = self._path(number)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | BINARY, 0o666)
        try:
            end = os.lseek(file, 0, os.SEEK_END)
            try:
                write_all(file, memoryview(record), path)
            except OSError:
                os.ftruncate(file, end)
                raise
        finally:
            os.close(file)

    def sync(self, number: int) -> None:
        """Wait until a log is on the disk."""
        if self._path(number).exists():
            sync(self._path(number))
            sync(self._files.directory)

    def restore(self, number: int) -> list[str]:
        """Bring the files back to save `number`, as far as the logs tell; returns what is wrong with these.

        The newest log comes first, and its newest record, so what was noted first is what stays. All of it can be done
        again: the logs go only when the files are on the disk, and again the newest first.
        """
        numbers = sorted((each for each in self._numbers() if each >= number), reverse=True)
        with self._files.writing() as write:
            problems = [problem for each in numbers for problem in self._apply(self._path(each), write)]
        for each in numbers:
            self._path(each).unlink()
        return problems

    def drop(self, number: int) -> None:
        """Delete the logs of the saves before `number`."""
        for each in sorted(self._numbers()):
            if each < number:
                self._path(each).unlink()

    def clear(self) -> None:
        for each in self._numbers():
            self._path(each).unlink()

    def _apply(self, path: Path, write: Write) -> list[str]:
        with path.open("rb") as log:
            records, is_whole = self._records(log, path.stat().st_size)
            for record in reversed(records):
                log.seek(record.position)
                payload = log.read(self._nbytes(record.group, record.count))
                if zlib.crc32(payload) == record.crc:
                    self._put_back(record, payload, write)
                else:
                    is_whole = False
        return [] if is_whole else [f"{path.name} is damaged"]

    def _records(self, log: BinaryIO, size: int) -> tuple[list[Record], bool]:
        """The records of a log up to where it breaks off, and whether that is its end or where a kill left it."""
        records, position = [], 0
        while position + HEADER.size <= size:
            log.seek(position)
            header = log.read(HEADER.size)
            mark, group, count, crc, own_crc = HEADER.unpack(header)
            is_sound = mark == MARK and own_crc == zlib.crc32(header[: -struct.calcsize("I")])
            if not is_sound or group >= len(self._groups):
                return records, False
            end = position + HEADER.size + self._nbytes(group, count)
            if end > size:
                break
            records.append(Record(position + HEADER.size, group, count, crc))
            position = end
        return records, True

    def _put_back(self, record: Record, payload: bytes, write: Write) -> None:
        num_bytes = 8 * record.count
        places = np.frombuffer(payload[:num_bytes], "<i8").astype(np.int64)
        content = np.frombuffer(payload, np.uint8, offset=num_bytes).reshape(record.count, -1)
        start = 0
        for key in self._groups[record.group]:
            stop = start + self._files.columns[key].nbytes
            write(key, places, content[:, start:stop])
            start = stop

    def _nbytes(self, group: int, count: int) -> int:
        return count * (8 + sum(self._files.columns[key].nbytes for key in self._groups[group]))

    def _numbers(self) -> list[int]:
        names = [re.fullmatch(r"undo\.(\d+)", path.name) for path in self._files.directory.glob("undo.*")]
        return [int(name[1]) for name in names if name]

    def _path(self, number: int) -> Path:
        return self._files.directory / f"undo.{number}"

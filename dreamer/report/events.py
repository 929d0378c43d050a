"""TensorBoard's event files, read with nothing but the definition of a record: whoever wrote them, whole or torn.

A file is a row of records: length (8 bytes), checksum of it (4), an Event, checksum of that (4). What follows a record
that is torn or damaged cannot be found again, so a file is read up to there.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

EVENT_FILES = "events.out.tfevents.*"
MOST_FILES, MOST_RECORDS, MOST_TAGS = 500, 2_000_000, 400  # of a run; the longest of ours has 60,000 records, 40 tags
LARGEST_RECORD = 32 << 20  # bytes; a film has about one million
LONGEST_TAG = 100


@dataclass
class Logged:
    """Scalars and moving images of a run by tag, and what is wrong with the files, if anything.

    scalars: (env_step, value) in order, finite ones alone. images: (env_step, GIF) of the last one.
    """

    scalars: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    images: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    num_records: int = 0


def read_event_files(directory: Path) -> Logged:
    """All event files of a run in the order in which they were begun.

    A session that goes on from a checkpoint makes void what an earlier one logged beyond that, as in TensorBoard.
    """
    logged = Logged()
    paths = sorted(path for path in directory.glob(EVENT_FILES) if path.is_file())
    if len(paths) > MOST_FILES:
        logged.notes.append(f"{len(paths)} event files; the last {MOST_FILES} were read")
    for path in paths[-MOST_FILES:]:
        _read_file(path, logged)
    return logged


def _read_file(path: Path, logged: Logged) -> None:
    try:
        for event in read_events(path):
            logged.num_records += 1
            if logged.num_records > MOST_RECORDS:
                logged.notes.append(f"{path.name} was read in part: a report takes {MOST_RECORDS:,} records of a run")
                return
            _take(event, logged)
    except ValueError as error:
        logged.notes.append(f"{path.name} is damaged {error}; what comes before was read")
    except OSError as error:
        logged.notes.append(f"{path.name} cannot be read ({error.strerror})")


def read_events(path: Path) -> Iterator[Event]:
    """The records of one file. ValueError, `at byte n`, where it is damaged, which a torn end is not."""
    with path.open("rb") as file:
        place = 0
        while len(header := file.read(12)) == 12:
            length, checksum = struct.unpack("<QI", header)
            if checksum != masked_crc32c(header[:8]) or length > LARGEST_RECORD:
                raise ValueError(f"at byte {place:,}")
            body = file.read(length + 4)
            if len(body) < length + 4:
                return
            data = body[:length]
            if struct.unpack("<I", body[length:])[0] != masked_crc32c(data):
                raise ValueError(f"at byte {place:,}")
            try:
                yield Event.FromString(data)
            except DecodeError as error:
                raise ValueError(f"at byte {place:,}") from error
            place += 16 + length


def _take(event: Event, logged: Logged) -> None:
    if event.session_log.status == SessionLog.START:
        for points in logged.scalars.values():
            while points and points[-1][0] >= event.step:
                points.pop()
        logged.images = {tag: image for tag, image in logged.images.items() if image[0] < event.step}
    for value in event.summary.value:
        kind, tag = value.WhichOneof("value"), value.tag[:LONGEST_TAG]
        if tag not in logged.scalars and len(logged.scalars) >= MOST_TAGS:
            continue
        if kind == "simple_value" and math.isfinite(value.simple_value):
            logged.scalars.setdefault(tag, []).append((event.step, value.simple_value))
        elif kind == "image" and len(logged.images) < MOST_TAGS:
            logged.images[tag] = event.step, value.image.encoded_image_string

"""Event files as TensorBoard's writer makes them, resumed, torn, damaged, and by strangers."""

from __future__ import annotations

import struct

import pytest
from event_files import GIF, record
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

from dreamer.report import events
from dreamer.report.events import masked_crc32c, read_event_files


def test_what_tensorboard_wrote_is_read_in_order(tmp_path, log):
    log(tmp_path, {"loss/dyn": [(0, 4.0), (1000, 2.5)], "critic/value": [(1000, -1.0)]})
    logged = read_event_files(tmp_path)
    assert logged.scalars == {"loss/dyn": [(0, 4.0), (1000, 2.5)], "critic/value": [(1000, -1.0)]}
    assert not logged.notes


def test_a_resumed_session_makes_void_what_was_logged_beyond_its_checkpoint(tmp_path, log):
    first = log(tmp_path, {"loss/dyn": [(0, 4.0), (1000, 3.0), (2000, 2.0)]})
    first.rename(tmp_path / "events.out.tfevents.0000000001.a")
    log(tmp_path, {"loss/dyn": [(1500, 2.5)]}, purge_step=1001)
    assert read_event_files(tmp_path).scalars["loss/dyn"] == [(0, 4.0), (1000, 3.0), (1500, 2.5)]


def test_a_torn_end_is_no_fault_and_a_flipped_bit_is_named_with_what_came_before_it(tmp_path, log):
    path = log(tmp_path, {"loss/dyn": [(step, float(step)) for step in range(20)]})
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert len(read_event_files(tmp_path).scalars["loss/dyn"]) == 19
    assert not read_event_files(tmp_path).notes
    spoiled = bytearray(whole)
    spoiled[-100] ^= 4
    path.write_bytes(bytes(spoiled))
    logged = read_event_files(tmp_path)
    assert 15 <= len(logged.scalars["loss/dyn"]) < 20
    assert len(logged.notes) == 1 and f"{path.name} is damaged at byte" in logged.notes[0]


@pytest.mark.parametrize("data", [b"", b"no events at all, but words", bytes(200), struct.pack("<QI", 1 << 60, 0)])
def test_a_file_that_holds_no_events_gives_none_and_is_named_if_it_is_no_beginning_of_one(tmp_path, data):
    (tmp_path / "events.out.tfevents.1.x").write_bytes(data)
    logged = read_event_files(tmp_path)
    assert not logged.scalars and len(logged.notes) == (1 if data else 0)


def test_a_record_that_claims_to_be_huge_is_refused_though_its_checksum_is_right(tmp_path):
    header = struct.pack("<Q", 1 << 40)
    (tmp_path / "events.out.tfevents.1.x").write_bytes(header + struct.pack("<I", masked_crc32c(header)) + bytes(50))
    assert "is damaged at byte 0" in read_event_files(tmp_path).notes[0]


def test_tags_are_shortened_and_counted_and_values_that_are_not_finite_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(events, "MOST_TAGS", 3)
    values = [Summary.Value(tag=f"{index}" * 500, simple_value=1.0) for index in range(5)]
    values.append(Summary.Value(tag="bad", simple_value=float("nan")))
    path = tmp_path / "events.out.tfevents.1.x"
    path.write_bytes(record(Event(step=1, summary=Summary(value=values))))
    assert [len(tag) for tag in read_event_files(tmp_path).scalars] == [100, 100, 100]
    path.write_bytes(record(Event(step=1, summary=Summary(value=values[-1:]))))
    assert not read_event_files(tmp_path).scalars


def test_more_records_than_a_report_takes_are_named(tmp_path, log, monkeypatch):
    monkeypatch.setattr(events, "MOST_RECORDS", 10)
    log(tmp_path, {"loss/dyn": [(step, 1.0) for step in range(30)]})
    logged = read_event_files(tmp_path)
    assert len(logged.scalars["loss/dyn"]) < 10 and "was read in part" in logged.notes[0]


def test_the_last_film_of_a_tag_is_kept(tmp_path):
    def film(step: int, data: bytes) -> bytes:
        image = Summary.Image(encoded_image_string=data, height=1, width=2, colorspace=3)
        return record(Event(step=step, summary=Summary(value=[Summary.Value(tag="open_loop/image", image=image)])))

    (tmp_path / "events.out.tfevents.1.x").write_bytes(film(10, b"old") + film(20, GIF))
    assert read_event_files(tmp_path).images == {"open_loop/image": (20, GIF)}

"""The ring: order, wrap and eviction, the online queue, write-back, saving and restoring."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.data.replay import Replay
from dreamer.data.storage import Column, columns_of
from dreamer.types import Space

COLUMNS = {
    "t": Column((), "int32"),
    "stream": Column((), "int32"),
    "is_first": Column((), "bool"),
    "is_last": Column((), "bool"),
    "deter": Column((2,), "float32"),
    "stoch": Column((1,), "int16"),
}
EPISODE = 7  # rows


def make(directory: Path, **overrides: Any) -> Replay:
    settings: dict[str, Any] = dict(capacity=60, length=5, num_streams=2, storage="ram", seed=0, online=False)
    return Replay(COLUMNS, directory=directory, **(settings | overrides))


def add(replay: Replay, start: int, stop: int, streams: tuple[int, ...] = (0, 1)) -> None:
    for t in range(start, stop):
        for stream in streams:
            is_first, is_last = t % EPISODE == 0, t % EPISODE == EPISODE - 1
            flags = {"is_first": is_first, "is_last": is_last}
            replay.add(stream, {"t": t, "stream": stream, **flags, "deter": [t, stream], "stoch": [t % 4]})


def starts(replay: Replay) -> set[tuple[int, int]]:
    """All (stream, start) that uniform draws give; enough draws to meet each of a few dozen."""
    rows, row_ids = replay.sample(5000)
    assert (row_ids == np.stack([rows["stream"][:, 0], rows["t"][:, 1]], 1)).all()
    return {(stream, t - 1) for stream, t in row_ids.tolist()}


def same_rows(one: Replay, other: Replay) -> None:
    (rows, ids), (other_rows, other_ids) = one.sample(100), other.sample(100)
    np.testing.assert_array_equal(ids, other_ids)
    for key in rows:
        np.testing.assert_array_equal(rows[key], other_rows[key], err_msg=key)


@pytest.fixture(params=["ram", "disk"])
def storage(request: pytest.FixtureRequest) -> str:
    return request.param


def test_sequences_are_consecutive_rows_of_one_stream_across_episodes(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    add(replay, 0, 20)
    rows, _ = replay.sample(500)
    assert (np.diff(rows["t"]) == 1).all()
    assert (rows["stream"] == rows["stream"][:, :1]).all()
    np.testing.assert_array_equal(rows["deter"], np.stack([rows["t"], rows["stream"]], -1))
    expected = rows["t"] % EPISODE == 0
    expected[:, 0] = True
    np.testing.assert_array_equal(rows["is_first"], expected)
    np.testing.assert_array_equal(rows["is_last"], rows["t"] % EPISODE == EPISODE - 1)


@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_a_column_is_what_the_rings_still_hold(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    add(replay, 0, 12)
    assert replay.column("t").tolist() == [*range(12)] * 2
    add(replay, 12, 40)  # rings of 30 rows
    assert replay.column("stream").tolist() == [0] * 30 + [1] * 30
    for t in np.split(replay.column("t"), 2):
        assert sorted(t) == [*range(10, 40)]


def test_sampling_leaves_the_stored_flags_alone(tmp_path: Path) -> None:
    replay = make(tmp_path, length=2)
    add(replay, 0, 20)
    for _ in range(3):
        rows, _ = replay.sample(200)
        np.testing.assert_array_equal(rows["is_first"][:, 1], rows["t"][:, 1] % EPISODE == 0)


def test_row_before_an_abandoned_episode_counts_as_last(tmp_path: Path) -> None:
    replay = make(tmp_path, num_streams=1, length=4)
    for t in range(4):
        replay.add(0, {"t": t, "stream": 0, "is_first": t in (0, 2), "is_last": False, "deter": [0, 0], "stoch": [0]})
    rows, _ = replay.sample(1)
    assert rows["is_first"].tolist() == [[True, False, True, False]]
    assert rows["is_last"].tolist() == [[False, True, False, False]]


def test_every_start_is_drawn_and_about_equally_often(tmp_path: Path) -> None:
    replay = make(tmp_path)
    add(replay, 0, 20)
    add(replay, 20, 30, streams=(1,))
    assert replay.num_items == 16 + 26 and replay.num_rows == 50
    assert starts(replay) == {(0, t) for t in range(16)} | {(1, t) for t in range(26)}
    _, row_ids = replay.sample(42_000)
    _, counts = np.unique(row_ids, axis=0, return_counts=True)
    assert counts.min() > 850 and counts.max() < 1150  # 1000 expected each, standard deviation 31


def test_oldest_rows_leave_first_when_the_ring_is_full(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)  # 30 rows a stream
    for start, stop in [(0, 29), (29, 30), (30, 31), (31, 47), (47, 95)]:
        add(replay, start, stop)
        assert replay.num_rows == 2 * min(stop, 30)
        expected = {(stream, t) for stream in (0, 1) for t in range(max(0, stop - 30), stop - 4)}
        assert starts(replay) == expected and replay.num_items == len(expected)


def test_fresh_sequences_come_first_each_once_and_in_order(tmp_path: Path) -> None:
    replay = make(tmp_path, online=True)
    add(replay, 0, 14)
    assert replay.num_queued == 4
    _, row_ids = replay.sample(3)
    assert row_ids.tolist() == [[0, 2], [1, 2], [0, 7]]  # second rows of the sequences that start at 1, 1, 6
    _, row_ids = replay.sample(3)
    assert row_ids[0].tolist() == [1, 7] and replay.num_queued == 0


def test_fresh_sequences_that_were_evicted_are_skipped(tmp_path: Path) -> None:
    replay = make(tmp_path, online=True, num_streams=1, capacity=12)
    add(replay, 0, 26, streams=(0,))  # rows 14..25 remain; queued were 1, 6, 11, 16, 21
    assert replay.num_queued == 2
    _, row_ids = replay.sample(2)
    assert row_ids.tolist() == [[0, 17], [0, 22]]


def test_write_back_changes_exactly_its_rows_and_skips_evicted_ones(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    add(replay, 0, 30)
    deter = np.full((2, 4, 2), -1, np.float32)
    row_ids = np.array([[0, 10], [1, 2]])
    add(replay, 30, 34)  # evicts rows 0..3: of the second sequence (rows 2..5) only 4 and 5 remain
    replay.write_back(row_ids, deter, np.full((2, 4, 1), 9, np.int16))
    rows, _ = replay.sample(3000)
    written = {(0, 10), (0, 11), (0, 12), (0, 13), (1, 4), (1, 5)}
    is_written = rows["deter"][..., 0] == -1
    got = set(zip(rows["stream"][is_written].tolist(), rows["t"][is_written].tolist(), strict=True))
    assert got == written
    np.testing.assert_array_equal(rows["stoch"][..., 0], np.where(is_written, 9, rows["t"] % 4))


def test_row_of_another_shape_is_not_stretched_to_fit(tmp_path: Path) -> None:
    row = {"t": 0, "stream": 0, "is_first": True, "is_last": False, "deter": [0], "stoch": [0]}
    with pytest.raises(AssertionError, match="deter"):
        make(tmp_path).add(0, row)


def test_disk_gives_what_memory_gives(tmp_path: Path) -> None:
    one, other = make(tmp_path / "ram", online=True), make(tmp_path / "disk", storage="disk", online=True)
    for replay in (one, other):
        add(replay, 0, 44)
    same_rows(one, other)


@pytest.mark.parametrize("reader", ["ram", "disk"])
def test_restored_replay_goes_on_as_if_never_stopped(tmp_path: Path, storage: str, reader: str) -> None:
    replay = make(tmp_path, storage=storage, online=True)
    latent = np.full((1, 4, 2), -5, np.float32), np.ones((1, 4, 1), np.int16)
    add(replay, 0, 20)
    replay.save()
    replay.write_back(np.array([[1, 14]]), *latent)  # of rows that are already saved
    add(replay, 20, 41)  # around the end of the ring
    replay.write_back(np.array([[0, 28]]), *latent)
    replay.sample(1)
    replay.save()
    restored = make(tmp_path, storage=reader, online=True, seed=99)
    restored.load_state_dict(replay.state_dict())
    reference = make(tmp_path / "never stopped", online=True)
    add(reference, 0, 20)
    reference.write_back(np.array([[1, 14]]), *latent)
    add(reference, 20, 41)
    reference.write_back(np.array([[0, 28]]), *latent)
    reference.sample(1)
    for _ in range(3):
        same_rows(restored, reference)
    for each in (restored, reference):
        add(each, 41, 60)
    same_rows(restored, reference)
    restored.save()
    again = make(tmp_path, online=True)
    again.load_state_dict(restored.state_dict())
    same_rows(again, reference)


def test_rows_after_the_last_save_are_dropped_and_overwritten_ones_come_back(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    add(replay, 0, 40)  # rows 10..39
    replay.save()
    state = replay.state_dict()
    add(replay, 40, 48)  # killed here; on disk they took the slots of rows 10..17
    restored = make(tmp_path, storage=storage)
    restored.load_state_dict(state)
    expected = {(stream, t) for stream in (0, 1) for t in range(10, 36)}
    assert starts(restored) == expected and restored.num_items == len(expected)
    add(restored, 40, 60)
    assert starts(restored) == {(stream, t) for stream in (0, 1) for t in range(30, 56)}
    restored.save()
    again = make(tmp_path, storage=storage)
    again.load_state_dict(restored.state_dict())
    assert starts(again) == starts(restored)


def test_replay_whose_rows_are_all_lost_fills_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay = make(tmp_path, storage="disk")
    add(replay, 0, 40)
    replay.save()
    state = replay.state_dict()
    add(replay, 40, 90)
    (tmp_path / "undo.1").unlink()
    restored = make(tmp_path, storage="disk")
    restored.load_state_dict(state)
    assert restored.num_items == 0
    assert "30 rows of environment 1 will not be drawn (row 10: another row lies in its place)" in capsys.readouterr().out
    add(restored, 40, 50)
    assert starts(restored) == {(stream, t) for stream in (0, 1) for t in range(40, 46)}


def test_process_killed_between_a_save_and_its_checkpoint_goes_on_from_the_one_before(tmp_path: Path) -> None:
    replay = make(tmp_path)
    add(replay, 0, 40)
    replay.save()
    state = replay.state_dict()
    add(replay, 40, 45)
    replay.save()  # the files are newer now, but the checkpoint that belongs to them was never written
    restored = make(tmp_path)
    restored.load_state_dict(state)
    assert starts(restored) == {(stream, t) for stream in (0, 1) for t in range(10, 36)}


def test_marking_the_newest_row_as_last_survives_a_restore(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage, num_streams=1)
    add(replay, 0, 10, streams=(0,))
    replay.save()
    replay.end_episode(0)
    replay.save()
    restored = make(tmp_path, storage=storage, num_streams=1)
    restored.load_state_dict(replay.state_dict())
    rows, _ = restored.sample(100)
    np.testing.assert_array_equal(rows["is_last"], (rows["t"] == 6) | (rows["t"] == 9))


def test_empty_replay_is_saved_and_restored(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    replay.save()
    restored = make(tmp_path, storage=storage)
    restored.load_state_dict(replay.state_dict())
    assert restored.num_rows == restored.num_items == 0
    add(restored, 0, 6)
    assert restored.num_items == 4


def test_later_saves_write_only_what_is_new_also_after_a_restore(tmp_path: Path) -> None:
    replay = make(tmp_path, capacity=2000)
    add(replay, 0, 500)
    replay.save()
    restored = make(tmp_path, capacity=2000)
    restored.load_state_dict(replay.state_dict())
    path = tmp_path / "t.bin"
    content = bytearray(path.read_bytes())
    content[:4] = b"\xff\xff\xff\xff"  # row 0 of stream 0: the saves that follow must not touch it
    path.write_bytes(content)
    for place, each in [(500, replay), (501, restored)]:
        add(each, each.num_rows // 2, place + 1)
        each.save()
        saved = np.frombuffer(path.read_bytes(), np.int32).reshape(2, 1000)
        assert saved[0, 0] == -1 and saved[0, 1] == 1 and saved[1, place] == place


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(capacity=80), ["replay.capacity", "was 30, now 40"]),
        (dict(num_streams=3, capacity=90), ["env.num_envs was 2, now 3"]),
        (dict(length=6), ["batch_length + 1 was 5, now 6"]),
    ],
)
def test_restoring_into_another_size_says_what_differs(tmp_path: Path, change: dict, words: list[str]) -> None:
    replay = make(tmp_path)
    add(replay, 0, 10)
    replay.save()
    with pytest.raises(ValueError) as error:
        make(tmp_path, **change).load_state_dict(replay.state_dict())
    for word in words:
        assert word in str(error.value)


def test_restoring_other_columns_says_which(tmp_path: Path) -> None:
    replay = make(tmp_path)
    add(replay, 0, 10)
    replay.save()
    columns = {**COLUMNS, "deter": Column((4,), "float32")}
    other = Replay(columns, 60, 5, 2, "ram", tmp_path, seed=0)
    with pytest.raises(ValueError, match=r"deter was float32 \[2\], now float32 \[4\]"):
        other.load_state_dict(replay.state_dict())


def test_missing_or_short_files_are_refused_by_name(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    add(replay, 0, 10)
    replay.save()
    state = replay.state_dict()
    with open(tmp_path / "t.bin", "r+b") as file:
        file.truncate(100)
    with pytest.raises(ValueError, match=r"t\.bin has 100 bytes, expected 240"):
        make(tmp_path, storage=storage).load_state_dict(state)
    (tmp_path / "t.bin").unlink()
    with pytest.raises(ValueError, match=r"t\.bin is missing"):
        make(tmp_path, storage=storage).load_state_dict(state)


def test_frames_are_sampled_and_added_fast(tmp_path: Path) -> None:
    """Measured: 2.5 ms and 6 to 60 us; the bounds leave room for a busy machine."""
    columns = columns_of({"image": Space((64, 64, 3), "uint8")}, Space((6,), "float32"), deter=512, stoch=32)
    replay = Replay(columns, 4000, 65, 1, "ram", tmp_path, seed=0, online=False)
    row = {key: np.zeros(column.shape, column.dtype) for key, column in columns.items()}
    for _ in range(4000):  # the first round also waits for memory pages
        replay.add(0, row)
    begin = time.perf_counter()
    for _ in range(1000):
        replay.add(0, row)
    assert (time.perf_counter() - begin) / 1000 < 500e-6
    seconds = []
    for _ in range(20):
        begin = time.perf_counter()
        replay.sample(16)
        seconds.append(time.perf_counter() - begin)
    assert np.median(seconds) < 0.04

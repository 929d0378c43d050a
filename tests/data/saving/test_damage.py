"""Damaged files and impossible values: never read as truth, never drawn, named in one line."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rings import add, content, make, starts, write_back

from dreamer.data.replay import Replay
from dreamer.data.storage import LATENT_DIGEST, ROW_DIGEST, columns_of
from dreamer.types import Space

pytestmark = pytest.mark.usefixtures("without_waiting")
SPACES = {"vector": Space((3,), "float32"), "pick": Space((2,), "int32", (3, 5))}
PLAY = columns_of(SPACES, Space((1,), "int32", (4,)), deter=2, stoch=2, classes=6)
Truth = dict[tuple[int, int], dict[str, list[Any]]]


def play(directory: Path, storage: str = "ram", length: int = 4) -> Replay:
    return Replay(PLAY, 24, length, 1, storage, directory, seed=0, online=False)


def play_row(t: int, **changed: Any) -> dict[str, Any]:
    row = {"obs.vector": [t, 1, 2], "obs.pick": [2, 4], "action": [3], "reward": 0.5}
    flags = {"is_first": t == 0, "is_last": False, "is_terminal": False}
    return {**row, **flags, "deter": [t, 0], "stoch": [5, 0], **changed}


def rows_of(replay: Replay) -> Truth:
    """(stream, t) -> the row's columns, of every stored row."""
    state = replay.state_dict()
    return {
        (stream, t): {key: replay._arrays[key][stream, t % replay.rows].tolist() for key in replay.columns}
        for stream, (oldest, after) in enumerate(zip(state["oldest"], state["next"], strict=True))
        for t in range(oldest, after)
    }


def drawn(replay: Replay) -> set[tuple[int, int]]:
    """(stream, t) of every row of every sequence that is drawn."""
    if not replay.num_items:
        return set()
    _, row_ids = replay.sample(3000)
    return {(stream, t - 1 + i) for stream, t in row_ids.tolist() for i in range(replay.length)}


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_flipped_bit_in_any_file_is_never_read_as_truth(
    tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replay, saved = make(tmp_path / "whole", storage=storage), []
    for start in (0, 40):
        add(replay, start, start + 40)
        write_back(replay, 1, start + 30, 7)
        replay.save()
        saved.append((replay.state_dict(), rows_of(replay)))
        write_back(replay, 0, start + 25, 8)
    add(replay, 80, 90)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert len([name for name in files if name.startswith("undo")]) == {"ram": 1, "disk": 2}[storage]
    chance, seed = random.Random(seed := random.randrange(10**9)), seed
    with capsys.disabled():
        print(f"[bits flipped with seed {seed}]", end=" ")
    for trial in range(200):
        name = files[trial % len(files)]
        state, truth = saved[chance.randrange(2)]
        directory = tmp_path / "damaged"
        shutil.copytree(tmp_path / "whole", directory)
        data = bytearray((directory / name).read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (directory / name).write_bytes(data)
        check_nothing_false(directory, storage, state, truth, capsys)
        shutil.rmtree(directory)


def check_nothing_false(
    directory: Path, storage: str, state: dict[str, Any], truth: Truth, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    restored = make(directory, storage=storage)
    restored.load_state_dict(state)
    said, got = capsys.readouterr().out, rows_of(restored)
    assert set(got) == set(truth) and said.count("\n") == bool(said)
    false = {place for place in truth if got[place] != truth[place]}
    rows_alone = {place for place in false if any(got[place][key] != truth[place][key] for key in ("t", "stream"))}
    taken = drawn(restored)
    if not said:
        assert not false and taken == set(truth)
    assert not taken & rows_alone
    if "undo" not in said:  # a log that is lost leaves latents that are newer, and says so
        assert not taken & false
    assert "will not be drawn" in said or taken == set(truth)


@pytest.mark.parametrize("storage", ["ram", "disk"])
@pytest.mark.parametrize(
    "changed",
    [
        {"reward": float("nan")},
        {"reward": 4.86e8},
        {"obs.vector": [0, float("inf"), 0]},
        {"obs.pick": [2, 5]},
        {"obs.pick": [-1, 0]},
        {"action": [4]},
        {"deter": [float("nan"), 0]},
        {"stoch": [0, 9999]},
    ],
    ids=lambda changed: "_".join(f"{key}_{value}" for key, value in changed.items()),
)
def test_row_that_no_environment_or_model_gives_is_named_and_never_drawn(
    tmp_path: Path, storage: str, changed: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    replay = play(tmp_path, storage)
    for t in range(12):
        replay.add(0, play_row(t, **changed if t == 6 else {}))
    replay.save()
    state = replay.state_dict()
    restored = play(tmp_path, storage)
    for _ in range(2):  # a save does not make it sound
        restored.load_state_dict(state)
        (key,) = changed
        said = f"1 row of environment 0 will not be drawn (row 6: {key} holds what no environment or model gives)"
        assert capsys.readouterr().out == f"Replay in {tmp_path}: {said}.\n"
        assert restored.num_items == 3 + 2 and drawn(restored) == {(0, t) for t in range(12) if t != 6}
        assert len(restored.column("reward")) == 11
        restored.save()
        state = restored.state_dict()


def test_largest_reward_that_has_a_bin_is_sound(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replay = play(tmp_path)
    for t in range(6):
        replay.add(0, play_row(t, reward=(-1) ** t * np.float32(np.expm1(20.0))))
    replay.save()
    play(tmp_path).load_state_dict(replay.state_dict())
    assert capsys.readouterr().out == ""


def test_sequences_around_damaged_rows_are_drawn_until_the_ring_goes_over_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = make(tmp_path, online=True)
    add(replay, 0, 30)
    replay.save()
    damage = {(0, 0), (0, 11), (0, 13), (1, 29)}
    array = np.memmap(tmp_path / "t.bin", np.int32, "r+", shape=(2, 30))
    for stream, t in damage:
        array[stream, t] += 1
    array.flush()
    restored = make(tmp_path, online=True)
    restored.load_state_dict(replay.state_dict())
    said = capsys.readouterr().out
    assert "3 rows of environment 0 will not be drawn (row 0: the digest of its row does not fit)" in said
    assert "1 row of environment 1 will not be drawn (row 29: " in said

    def whole(oldest: int, after: int) -> set[tuple[int, int]]:
        every = {(stream, t) for stream in (0, 1) for t in range(oldest, after - 4)}
        return {(stream, t) for stream, t in every if not any((stream, t + i) in damage for i in range(5))}

    fresh = {(stream, t) for stream in (0, 1) for t in (1, 6, 11, 16, 21)} & whole(0, 30)
    assert restored.num_queued == len(fresh)
    _, row_ids = restored.sample(len(fresh))
    assert {(stream, t - 1) for stream, t in row_ids.tolist()} == fresh
    for after in range(30, 62):
        if after > 30:
            add(restored, after - 1, after)
        assert restored.num_items == len(whole(after - 30, after)), after
        assert starts(restored) == whole(after - 30, after), after
    assert restored.num_queued == 0


@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_log_that_is_missing_or_damaged_is_told_also_where_every_row_is_sound(
    tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replay, states = make(tmp_path, storage=storage), []
    add(replay, 0, 20)
    for value in (1, 2):
        replay.save()
        states.append(replay.state_dict())
        write_back(replay, 0, 3, value)
    replay.save()
    lines = []
    for number, is_missing in ((2, False), (1, True)):
        path = tmp_path / f"undo.{number}"
        path.unlink() if is_missing else path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        restored = make(tmp_path, storage=storage)
        restored.load_state_dict(states[number - 1])
        assert restored.num_items == 32
        lines.append(capsys.readouterr().out)
    told = "rows or latents are not all those that the checkpoint saved.\n"
    assert lines == [f"Replay in {tmp_path}: undo.2 is damaged; {told}", f"Replay in {tmp_path}: {told}"]


def test_end_of_an_episode_marked_on_a_damaged_row_leaves_it_damaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = play(tmp_path)
    for t in range(8):
        replay.add(0, play_row(t, **{"reward": float("nan")} if t == 7 else {}))
    replay.save()
    (tmp_path / "row_digest.bin").write_bytes(bytes(24 * 4))
    restored = play(tmp_path)
    restored.load_state_dict(replay.state_dict())
    restored.end_episode(0)
    restored.save()
    assert "8 rows" in capsys.readouterr().out and restored.num_items == 0
    again = play(tmp_path)
    again.load_state_dict(restored.state_dict())
    assert "8 rows" in capsys.readouterr().out and again.num_items == 0


@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_replay_from_before_there_were_digests_goes_on_and_gets_them(
    tmp_path: Path, storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    replay = play(tmp_path, storage)
    for t in range(30):
        replay.add(0, play_row(t, **{"reward": float("nan")} if t == 20 else {}))
    replay.save()
    older = {key: value for key, value in replay.state_dict().items() if key not in ("generation", "content")}
    expected = rows_of(replay)
    for key in (ROW_DIGEST, LATENT_DIGEST):
        (tmp_path / f"{key}.bin").unlink()
    for _ in range(2):  # the second time after a kill before its next checkpoint
        restored = play(tmp_path, storage)
        restored.load_state_dict(older)
        assert repr(rows_of(restored)) == repr(expected)
        assert "1 row of environment 0 will not be drawn (row 20: reward holds" in capsys.readouterr().out
        restored.end_episode(0)
        for t in range(30, 34):
            restored.add(0, play_row(t))
        restored.save()
    again, after = play(tmp_path, storage), repr(content(restored))
    again.load_state_dict(restored.state_dict())
    assert repr(content(again)) == after and "1 row of" in capsys.readouterr().out
    array = np.memmap(tmp_path / "deter.bin", np.float32, "r+", shape=(24, 2))
    array[25 % 24] += 1
    array.flush()
    again.load_state_dict(restored.state_dict())
    assert "2 rows of environment 0 will not be drawn (row 20: " in capsys.readouterr().out

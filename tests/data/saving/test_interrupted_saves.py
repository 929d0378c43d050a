"""Kills and full disks at every write: each checkpoint that is kept gets back exactly its rows and latents."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rings import add, content, make, starts, write_back

from dreamer.data.replay import Replay

Fail = Callable[[], BaseException]
CALLS = ("write", "fsync", "unlink", "ftruncate")


class Killed(BaseException):
    """Stands for SIGKILL: nothing that handles errors sees it."""


@contextmanager
def failing(at: int, fail: Fail, is_lasting: bool = False) -> Iterator[list[str]]:
    """The call number `at` that changes the disk fails, a write after half of its bytes; yields the calls so far.

    is_lasting: writes after that fail too, as on a disk that is full.
    """
    calls: list[str] = []

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append(name)
            if len(calls) == at or (is_lasting and len(calls) > at and name == "write"):
                if name == "write":
                    real(args[0], args[1][: len(args[1]) // 2])
                raise fail()
            return real(*args)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        patch.setattr(np.memmap, "flush", wrapped("flush", np.memmap.flush))
        yield calls


pytestmark = pytest.mark.usefixtures("without_waiting")


@pytest.fixture(params=[pytest.param(10, id="some"), pytest.param(None, id="every", marks=pytest.mark.long)])
def number(request: pytest.FixtureRequest) -> int | None:
    """How many points are tried; the long form tries each."""
    return request.param


@pytest.fixture(params=["ram", "disk"])
def storage(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(
    params=[
        pytest.param((1, 12), marks=pytest.mark.slow, id="1_full"),
        pytest.param((1, 60), marks=pytest.mark.slow, id="1_filling"),
        pytest.param((2, 24), id="2_full"),
        pytest.param((2, 120), marks=pytest.mark.slow, id="2_filling"),
    ]
)
def ring(request: pytest.FixtureRequest, storage: str) -> dict[str, Any]:
    """Settings of a ring that is full when it is saved, or is not yet; of one environment or two."""
    num_streams, capacity = request.param
    return dict(num_streams=num_streams, capacity=capacity, storage=storage, online=True)


def live(replay: Replay, start: int, stop: int, value: float) -> None:
    """What happens between two saves: rows, batches and their latents, an episode that is cut."""
    streams = range(replay.num_streams)
    replay.end_episode(0) if start else None
    for t in range(start, stop):
        add(replay, t, t + 1, streams)
        if replay.num_items:
            replay.sample(2)
        if t > 6:
            write_back(replay, streams[-1], t - 5, value + t)
    replay.end_episode(streams[-1])


def two_saves(directory: Path, ring: dict[str, Any]) -> tuple[Replay, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """A replay, and state and content of its two saves; the ring goes over a part of its rows after each."""
    replay, saved = make(directory, **ring), []
    for start, stop in ((0, 14), (14, 19)):
        live(replay, start, stop, 100.0)
        replay.save()
        saved.append((replay.state_dict(), content(replay)))
    replay.keep(1)
    return replay, saved


def check_both(directory: Path, ring: dict[str, Any], saved: list[tuple[dict[str, Any], dict[str, Any]]]) -> None:
    """The newer state and the older come back as they were, from what lies in `directory` now, and can go on."""
    for state, expected in saved:
        copy = directory.with_name("copy")
        shutil.copytree(directory, copy)
        resumed = make(copy, **ring)
        resumed.load_state_dict(state)
        assert content(resumed) == expected
        live(resumed, state["next"][0], state["next"][0] + 4, 300.0)
        resumed.save()
        again, after = make(copy, **ring), content(resumed)
        again.load_state_dict(resumed.state_dict())
        assert content(again) == after
        shutil.rmtree(copy)


def try_points(run: Callable[[int], int], number: int | None = None) -> None:
    """Call `run` with so many of the calls 1, 2, ... that it gets to when nothing fails, or with every one."""
    total = run(10**9)
    assert total > 5
    points = np.unique(np.linspace(1, total, number or total).round().astype(int)).tolist()
    for at in points:
        assert run(at) >= at
    print(f"{len(points)} points")


def test_killed_at_any_write_after_a_save_both_checkpoints_are_whole(
    tmp_path: Path, ring: dict[str, Any], number: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(at: int) -> int:
        directory = tmp_path / str(at)
        replay, saved = two_saves(directory, ring)
        with failing(at, Killed) as calls:
            try:
                live(replay, 19, 24, 200.0)
                replay.save()
                live(replay, 24, 28, 250.0)
                replay.save()
            except Killed:
                pass
        check_both(directory, ring, saved)
        shutil.rmtree(directory)
        return len(calls)

    try_points(run, number)
    assert re.fullmatch(r"\d+ points\n", capsys.readouterr().out)  # and no word of damage


def test_killed_at_any_write_of_a_recovery_both_checkpoints_are_whole(
    tmp_path: Path, ring: dict[str, Any], number: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(at: int) -> int:
        directory = tmp_path / str(at)
        replay, saved = two_saves(directory, ring)
        live(replay, 19, 24, 200.0)
        replay.save()
        live(replay, 24, 27, 250.0)
        with failing(at, Killed) as calls, suppress(Killed):
            make(directory, **ring).load_state_dict(saved[0][0])
        check_both(directory, ring, saved[:1])
        shutil.rmtree(directory)
        return len(calls)

    try_points(run, number)
    assert re.fullmatch(r"\d+ points\n", capsys.readouterr().out)  # and no word of damage


def test_disk_that_fills_at_any_write_leaves_both_checkpoints_whole_and_the_run_able_to_go_on(
    tmp_path: Path, ring: dict[str, Any], number: int | None
) -> None:
    def run(at: int) -> int:
        directory = tmp_path / str(at)
        replay, saved = two_saves(directory, ring)
        if ring["storage"] == "ram":
            live(replay, 19, 24, 200.0)
        with failing(at, lambda: OSError(errno.ENOSPC, "No space left on device"), is_lasting=True) as calls:
            try:
                if ring["storage"] == "disk":
                    live(replay, 19, 24, 200.0)
                replay.save()
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert calls[at - 1] != "write" or "the checkpoints before are whole" in str(error)
        check_both(directory, ring, saved)
        live(replay, replay.state_dict()["next"][0], 27, 250.0)  # room was made
        replay.save()
        check_both(directory, ring, [*saved, (replay.state_dict(), content(replay))])
        shutil.rmtree(directory)
        return len(calls)

    try_points(run, number)


def test_environment_that_does_not_replay_exactly_may_be_killed_in_its_first_save(tmp_path: Path, storage: str) -> None:
    def run(at: int) -> int:
        directory = tmp_path / str(at)
        replay = make(directory, storage=storage)
        add(replay, 0, 40)
        replay.save()
        state, before = replay.state_dict(), starts(replay)
        resumed = make(directory, storage=storage)
        resumed.load_state_dict(state)
        resumed.end_episode(0)  # as the collector does for such an environment
        add(resumed, 40, 43)
        with failing(at, Killed) as calls, suppress(Killed):
            resumed.save()
        again = make(directory, storage=storage)
        again.load_state_dict(state)
        assert starts(again) == before
        return len(calls)

    try_points(run)


def test_older_checkpoint_is_let_go_with_its_log(tmp_path: Path, storage: str) -> None:
    replay = make(tmp_path, storage=storage)
    for number in range(1, 6):
        add(replay, 20 * number - 20, 20 * number)
        write_back(replay, 0, 20 * number - 10, number)
        replay.save()
        if number > 1:
            replay.keep(number - 1)
        logs = {path.name for path in tmp_path.glob("undo.*")}
        assert logs <= {f"undo.{number - 1}"}, (number, logs)


def test_run_started_anew_forgets_the_logs_of_the_one_before(tmp_path: Path, storage: str) -> None:
    two_saves(tmp_path, dict(storage=storage, num_streams=2, capacity=24))
    assert any(tmp_path.glob("undo.*"))
    replay = make(tmp_path, storage=storage)
    add(replay, 0, 10)
    replay.save()
    assert not any(tmp_path.glob("undo.*"))
    restored = make(tmp_path, storage=storage)
    restored.load_state_dict(replay.state_dict())
    assert content(restored) == content(replay)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system cannot reserve space")
def test_space_on_disk_is_taken_at_the_start_or_the_run_refused_with_nothing_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(make(tmp_path, storage="disk", capacity=60_000), 0, 1)
    assert all(path.stat().st_blocks * 512 >= path.stat().st_size for path in tmp_path.glob("*.bin"))
    real, calls = os.posix_fallocate, []

    def full(*args: int) -> None:
        calls.append(args)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ValueError, match=r"replay\.storage=disk needs 2\.\d MB in .*, where .* are left"):
        add(make(tmp_path / "full", storage="disk", capacity=60_000), 0, 1)
    assert list((tmp_path / "full").iterdir()) == []

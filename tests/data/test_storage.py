"""Sizes, and what is refused before anything is built."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from dreamer.data.replay import Replay
from dreamer.data.storage import Column, choose_storage, columns_of, free_disk, nbytes_of, undo_nbytes_of
from dreamer.types import Space

COLUMNS = {
    "x": Column((82,), "uint8"),
    "is_first": Column((), "bool"),
    "is_last": Column((), "bool"),
}  # 100 with the id and the digests


def machine(monkeypatch: pytest.MonkeyPatch, memory: int, disk: int) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=memory))
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=disk))


def test_row_of_a_vision_run_takes_the_bytes_of_its_parts() -> None:
    columns = columns_of({"image": Space((64, 64, 3), "uint8")}, Space((6,), "float32"), deter=512, stoch=32)
    image, action, reward, flags, deter, stoch, row_id, digests = 12288, 24, 4, 3, 2048, 64, 8, 8
    assert nbytes_of(columns, 1) == image + action + reward + flags + deter + stoch + row_id + digests
    assert nbytes_of(columns, 1000) == 1000 * nbytes_of(columns, 1)


def test_auto_takes_memory_while_half_of_it_suffices_and_else_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, memory=200_000, disk=1_000_000)
    directory = tmp_path / "not" / "made" / "yet"
    assert nbytes_of(COLUMNS, 1000) == 100_000
    assert choose_storage("auto", COLUMNS, 1000, directory) == "ram"
    assert choose_storage("auto", COLUMNS, 1001, directory) == "disk"
    assert choose_storage("ram", COLUMNS, 2000, directory) == "ram"
    assert choose_storage("disk", COLUMNS, 10, directory) == "disk"
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("storage", "capacity", "largest"), [("auto", 9501, 9500), ("disk", 9501, 9500), ("ram", 2001, 2000)]
)
def test_replay_that_fits_nowhere_is_refused_with_the_largest_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str, capacity: int, largest: int
) -> None:
    machine(monkeypatch, memory=200_000, disk=1_000_000)
    with pytest.raises(ValueError) as error:
        choose_storage(storage, COLUMNS, capacity, tmp_path)
    assert f"replay.capacity={capacity} needs" in str(error.value) and f"replay.capacity={largest}." in str(error.value)
    assert choose_storage(storage, COLUMNS, largest, tmp_path) in ("ram", "disk")


def test_memory_is_refused_when_its_checkpoint_would_not_fit_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, memory=200_000, disk=10_000)
    with pytest.raises(ValueError, match=r"the largest that fits is replay\.capacity=95\."):
        choose_storage("ram", COLUMNS, 100, tmp_path)


@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_disk_must_hold_what_two_checkpoints_need_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    columns = {**COLUMNS, "deter": Column((5,), "float32"), "stoch": Column((4,), "int16")}
    assert nbytes_of(columns, 1) == 128 and undo_nbytes_of(columns, 1) == 2 * (28 + 4 + 8)
    machine(monkeypatch, memory=10**6, disk=20_800)
    assert choose_storage(storage, columns, 95, tmp_path) == storage
    with pytest.raises(ValueError, match=r"needs 0\.0 MB and 0\.0 MB on disk for its .* replay\.capacity=95\."):
        choose_storage(storage, columns, 96, tmp_path)


@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_logs_of_two_checkpoints_take_what_is_said(tmp_path: Path, storage: str) -> None:
    columns = {**COLUMNS, "deter": Column((50,), "float32"), "stoch": Column((4,), "int16")}
    replay = Replay(columns, 1000, 5, 1, storage, tmp_path, seed=0)
    for _ in range(1000):
        flags = {"is_first": False, "is_last": False}
        replay.add(0, {"x": np.zeros(82), **flags, "deter": np.zeros(50), "stoch": np.zeros(4)})
    for number in range(4):
        replay.save()
        replay.keep(number)
        for t in range(0, 1000, 100):
            replay.write_back(np.array([[0, t]]), np.ones((1, 100, 50), np.float32), np.ones((1, 100, 4), np.int16))
    logs = sum(path.stat().st_size for path in tmp_path.glob("undo.*"))
    assert 0.4 * undo_nbytes_of(columns, 1000) < logs < 1.01 * undo_nbytes_of(columns, 1000)


def test_capacity_beyond_this_very_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"replay\.capacity=\d+ needs .* GB"):
        choose_storage("auto", COLUMNS, 10**15, tmp_path)


def test_files_of_the_run_to_be_resumed_count_as_free_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Replay(COLUMNS, 1000, 5, 1, "ram", tmp_path, seed=0)
    for _ in range(1000):
        replay.add(0, {"x": np.full(82, 7, np.uint8), "is_first": False, "is_last": False})
    replay.save()
    machine(monkeypatch, memory=0, disk=5)
    assert free_disk(tmp_path) >= 5 + nbytes_of(COLUMNS, 1000)

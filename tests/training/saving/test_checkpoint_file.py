"""The file of a checkpoint: every bit is checked, every entry has its kind, and it is written where it belongs."""

from __future__ import annotations

import random
import tempfile
import zipfile
from copy import deepcopy
from typing import Any

import pytest
import torch
from short_runs import COUNTER, NO_EVALUATION, differing, train

from dreamer.saved.checkpoint_file import SUM, SUM_BYTES, read_checkpoint
from dreamer.saved.checks import not_finite

FLIPS = 60
TAIL = 20_000  # bytes at the end that say where in the file each record lies


def test_every_flipped_bit_is_refused_or_changes_nothing(finished, tmp_path):
    whole, file = read_checkpoint(finished / "checkpoints" / "last.ckpt"), tmp_path / "flipped.ckpt"
    data, draw = bytearray((finished / "checkpoints" / "last.ckpt").read_bytes()), random.Random(0)
    assert data[-SUM_BYTES:].startswith(SUM)
    for first in (0, len(data) - TAIL, len(data) - SUM_BYTES):
        for _ in range(FLIPS // 3):
            place, bit = draw.randrange(first, len(data)), 1 << draw.randrange(8)
            data[place] ^= bit
            file.write_bytes(data)
            data[place] ^= bit
            try:
                state = read_checkpoint(file)
            except ValueError as error:
                assert f"checkpoint={file} cannot be read" in str(error)
            else:
                assert place >= len(data) - SUM_BYTES, f"bit {bit} of byte {place} was not seen"
                assert differing(state, whole) == []


def test_a_file_without_a_sum_over_all_of_it_is_known_by_those_of_its_records(finished, tmp_path):
    state = read_checkpoint(finished / "checkpoints" / "last.ckpt")
    torch.save(state, tmp_path / "older.ckpt")
    assert differing(read_checkpoint(tmp_path / "older.ckpt"), state) == []
    data = bytearray((tmp_path / "older.ckpt").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "older.ckpt").write_bytes(data)
    with pytest.raises(ValueError, match="cannot be read"):
        read_checkpoint(tmp_path / "older.ckpt")


def test_a_small_file_cannot_become_a_large_one(finished, tmp_path):
    state, file = read_checkpoint(finished / "checkpoints" / "last.ckpt"), tmp_path / "small.ckpt"
    name = next(iter(state["state_dict"]))
    torch.save(replaced(deepcopy(state), torch.zeros(1).expand(10**9), "state_dict", name), file)
    with pytest.raises(ValueError, match="its tensors are larger than the file"):
        read_checkpoint(file)
    torch.save(state, tmp_path / "whole.ckpt")
    with zipfile.ZipFile(tmp_path / "whole.ckpt") as whole, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for record in whole.infolist():
            packed.writestr(record.filename, whole.read(record))
    with pytest.raises(ValueError, match="cannot be read"):
        read_checkpoint(file)


def test_checkpoints_need_no_room_in_the_temporary_folder(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "there" / "is" / "none"))
    monkeypatch.setenv("TMPDIR", tempfile.tempdir)
    train(tiny, tmp_path / "run", 320, *COUNTER, NO_EVALUATION)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["dreamer"]["env_steps"] == 320


def without(state: dict[str, Any], *keys: str) -> dict[str, Any]:
    *outer, last = keys
    place = state
    for key in outer:
        place = place[key]
    del place[last]
    return state


def replaced(state: dict[str, Any], value: object, *keys: str) -> dict[str, Any]:
    place = without(state, *keys)
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return state


def with_ranks(state: dict[str, Any], others: object) -> dict[str, Any]:
    state["dreamer"]["other_ranks"] = others
    return state


@pytest.mark.parametrize(
    ("spoil", "shown"),
    [
        (lambda state: {"dreamer": {}}, "it has no state_dict"),
        (lambda state: {**state, "dreamer": {}}, "it has no dreamer.config"),
        (lambda state: {**state, "dreamer": []}, "dreamer is a list, expected dict"),
        (lambda state: [state], "was not written by this project"),
        (lambda state: without(state, "optimizer_states"), "it has no optimizer_states"),
        (lambda state: without(state, "dreamer", "dataset", "replay"), "it has no dreamer.dataset.replay"),
        (lambda state: without(state, "callbacks", "RunLog"), "it has no callbacks.RunLog"),
        (lambda state: replaced(state, "480", "dreamer", "env_steps"), "dreamer.env_steps is a str, expected int"),
        (lambda state: replaced(state, True, "dreamer", "env_steps"), "dreamer.env_steps is a bool, expected int"),
        (lambda state: replaced(state, -1, "global_step"), "global_step is -1"),
        (lambda state: replaced(state, {"a": 1}, "state_dict"), "state_dict.a is a int"),
        (lambda state: replaced(state, [], "optimizer_states"), "it has 0 optimizers, expected one"),
        (lambda state: replaced(state, [{"state": {0: {}}, "param_groups": []}], "optimizer_states"), "has no moments"),
        (lambda state: replaced(state, torch.zeros(3), "dreamer", "random", "cpu"), "no state of torch's generator"),
        (lambda state: with_ranks(state, [[]]), "dreamer.other_ranks.0.rank is a list, expected dict"),
        (lambda state: with_ranks(state, [{"random": {}}]), "it has no dreamer.other_ranks.0.rank.dataset"),
        (lambda state: with_ranks(state, {}), "dreamer.other_ranks is a dict"),
    ],
)
def test_what_is_missing_or_of_another_kind_is_named(finished, tmp_path, spoil, shown):
    state = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(spoil(state), tmp_path / "spoilt.ckpt")
    with pytest.raises(ValueError, match=r"checkpoint=.*spoilt\.ckpt ") as caught:
        read_checkpoint(tmp_path / "spoilt.ckpt")
    assert shown in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_and_moments_that_are_not_finite_are_named(finished, tmp_path, value):
    whole = torch.load(finished / "checkpoints" / "last.ckpt", weights_only=True)
    assert not_finite(whole) is None
    weight = next(key for key, tensor in whole["state_dict"].items() if tensor.is_floating_point())
    parts = {
        f"state_dict.{weight}": lambda state: state["state_dict"][weight],
        "optimizer_states.0.state.3.nu": lambda state: state["optimizer_states"][0]["state"][3]["nu"],
    }
    for name, part in parts.items():
        state = deepcopy(whole)
        part(state).view(-1)[-1] = value
        torch.save(state, tmp_path / "spoilt.ckpt")
        with pytest.raises(ValueError, match="holds values that are not finite") as caught:
            read_checkpoint(tmp_path / "spoilt.ckpt")
        assert f"{name} holds" in str(caught.value)

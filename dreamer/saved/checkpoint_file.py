"""The file of a checkpoint, read only where every bit of it is as it was written (training/saving/checkpoint_io.py)."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from dreamer.saved.checks import check_kinds, check_weights, not_finite, tensors_of
from dreamer.saved.policy_file import SUFFIX, check_header, read_policy

SUM, SUM_BYTES = b"sha256:", 71
BLOCK = 2**20
KINDS: dict[str, Any] = {
    "state_dict": {},
    "global_step": int,
    "loops": {"fit_loop": {}},
    "callbacks": {"RunLog": {"wall_seconds": float}, "Evaluate": {"due": int}, "OpenLoopVideo": {"due": int}},
    "optimizer_states": list,
    "lr_schedulers": list,
    "dreamer": {
        "config": {},
        "digest": str,
        "env_steps": int,
        "updates": int,
        "random": {"cpu": Tensor},
        "dataset": {"updates_due": int, "schedule": {}, "collector": {}, "replay": {}},
    },
}
"""What a run goes on from: entries that must be there, with their kind or, as a dictionary, their own ones."""


OTHER_RANKS = "other_ranks"
"""Entry of `dreamer` for several ranks: what 1, 2, ... have in place of rank 0's `dataset` and `random`."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, or an exported policy, as plain values; ValueError where there is none, or it is damaged."""
    if not path.is_file():
        raise ValueError(f"checkpoint={path} does not exist.")
    if path.suffix == SUFFIX:
        state = read_policy(path)
    else:
        state = read_archive(path)
        check_kinds(state, KINDS, path)
        check_header(state["dreamer"], path)
        check_optimizer(state["optimizer_states"], path)
        check_ranks(state["dreamer"], path)
        check_tensors(state, path)
    return {**state, "state_dict": under_present_names(state["state_dict"])}


def check_tensors(state: dict[str, Any], path: Path) -> None:
    """ValueError where weights or moments are none of an agent, take more memory than the file, or are not finite."""
    for name, value in state["state_dict"].items():
        if not isinstance(value, Tensor):
            raise ValueError(f"checkpoint={path} is no whole one: state_dict.{name} is a {type(value).__name__}.")
    try:
        tensors = [*tensors_of(state["state_dict"]), *tensors_of(state["optimizer_states"])]
    except RecursionError as error:
        raise ValueError(f"checkpoint={path} is no whole one: it holds itself.") from error
    if any(tensor.device.type != "cpu" or tensor.is_sparse or tensor.is_quantized for _, tensor in tensors):
        raise ValueError(f"checkpoint={path} is no whole one: it holds tensors of another kind than a run saves.")
    if sum(tensor.nbytes for _, tensor in tensors) > path.stat().st_size:
        raise ValueError(f"checkpoint={path} is no whole one: its tensors are larger than the file.")
    check_weights(state["state_dict"], path)
    if (name := not_finite(state)) is not None:
        raise ValueError(f"checkpoint={path} is of no use: {name} holds values that are not finite.")


def under_present_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of agents from before 30 November 2026, whose posterior named its layers otherwise, in the same order.

    They also counted the steps of the range of returns, which nothing needs.
    """
    present = {}
    for name, value in weights.items():
        root, is_old, layer = name.partition(".posterior_net.")
        if is_old and (match := re.fullmatch(r"(first|norm|out|rest\.(\d+))\.(.+)", layer)):
            kind, number, leaf = match.groups()
            layer = {"first": "0.0.linear", "norm": "0.0.norm", "out": "1"}.get(kind) or f"0.{int(number) + 1}"
            name = f"{root}.posterior_net.{layer}.{leaf}"
        if not name.endswith("actor_critic.return_range.weight"):
            present[name] = value
    return present


def read_archive(path: Path) -> dict[str, Any]:
    """The values in a file of torch.save whose sum is right; ValueError where it is not."""
    try:
        check_sum(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (
        RuntimeError, EOFError, OSError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, LookupError,
        AttributeError, TypeError, ValueError,
    ) as error:  # fmt: skip
        raise ValueError(f"checkpoint={path} cannot be read; it is truncated, damaged or no checkpoint.") from error
    if not isinstance(state, dict) or "dreamer" not in state:
        raise ValueError(f"checkpoint={path} was not written by this project.")
    return state


def add_sum(file: BinaryIO) -> None:
    """Append the SHA-256 of everything before it, as the comment of the zip archive that torch has written.

    The archive has sums of its own, but of its records only. Of bits flipped in what lies between them, one in some
    thousands makes torch read one record for another, each of them sound.
    """
    end = file.seek(-22, os.SEEK_END)
    assert file.read(4) == b"PK\5\6", "torch ends its archives with a record without a comment"
    file.seek(end + 20)
    file.write(SUM_BYTES.to_bytes(2, "little"))
    file.write(sum_over(file, end + 22))


def sum_over(file: BinaryIO, size: int) -> bytes:
    """The comment for a file whose first `size` bytes are these; the file stands behind them afterwards."""
    digest = hashlib.sha256()
    file.seek(0)
    while part := file.read(min(BLOCK, size - file.tell())):
        digest.update(part)
    return SUM + digest.hexdigest().encode()


def check_sum(path: Path) -> None:
    """ValueError or zipfile.BadZipFile where a file is not as it was written."""
    with path.open("rb") as file:
        file.seek(-SUM_BYTES, os.SEEK_END)
        size, comment = file.tell(), file.read()
        has_sum = comment.startswith(SUM)
        if has_sum and sum_over(file, size) != comment:
            raise ValueError("its sum differs")
    with zipfile.ZipFile(path) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("torch compresses nothing, and a small file may become a huge one")
        if has_sum:
            return
        for record in archive.infolist():  # of an earlier version, or written by torch alone: the sums of its records
            with archive.open(record) as content:
                while content.read(BLOCK):  # raises at the end of a record whose sum differs
                    pass


def peek(path: Path) -> dict[str, Any]:
    """A checkpoint of this run, unchecked; its tensors are mapped and not read, which takes milliseconds."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def check_optimizer(states: list[Any], path: Path) -> None:
    """ValueError where this is not the state of one LaProp (dreamer/nn/optim.py)."""
    if len(states) != 1 or not isinstance(states[0], dict):
        raise ValueError(f"checkpoint={path} is no whole one: it has {len(states)} optimizers, expected one.")
    check_kinds(states[0], {"state": {}, "param_groups": list}, path, "optimizer_states.")
    for index, moments in states[0]["state"].items():
        if not isinstance(moments, dict) or not all(isinstance(moments.get(key), Tensor) for key in ("mu", "nu")):
            raise ValueError(f"checkpoint={path} is no whole one: parameter {index} of its optimizer has no moments.")
    for group in states[0]["param_groups"]:
        if not isinstance(group, dict) or not isinstance(group.get("params"), list):
            raise ValueError(f"checkpoint={path} is no whole one: a group of its optimizer has no parameters.")


def check_ranks(run: dict[str, Any], path: Path) -> None:
    """ValueError where what the ranks of a run have is none of a run's."""
    others = run.get(OTHER_RANKS, [])
    if not isinstance(others, list):
        raise ValueError(f"checkpoint={path} is no whole one: dreamer.{OTHER_RANKS} is a {type(others).__name__}.")
    kinds = {key: KINDS["dreamer"][key] for key in ("dataset", "random")}
    for number, state in enumerate(others):
        check_kinds({"rank": state}, {"rank": kinds}, path, f"dreamer.{OTHER_RANKS}.{number}.")
    for state in (run, *others):
        check_generator(state["random"]["cpu"], path)


def check_generator(random: Tensor, path: Path) -> None:
    """ValueError where this is no state of torch's generator."""
    ours = torch.get_rng_state()
    if random.dtype != ours.dtype or random.shape != ours.shape:
        raise ValueError(f"checkpoint={path} is no whole one: dreamer.random.cpu is no state of torch's generator.")

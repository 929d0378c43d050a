"""The file of a checkpoint: written where it belongs, and read only where every bit of it is as it was written."""

from __future__ import annotations

import hashlib
import math
import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO
from torch import Tensor

from dreamer.training.saving import policy_file
from dreamer.training.saving.disk import check_room, writing

SUM, SUM_BYTES = b"sha256:", 71
ROOM = 1.02  # bytes on disk for a byte of tensors, more or less: the names and places of many small ones
BLOCK = 2**20
KINDS: dict[str, Any] = {
    "state_dict": {},
    "dreamer": {"config": {}, "digest": str, "env_steps": int, "updates": int},
}
"""What evaluation and export need: entries that must be there, with their kind or, as a dictionary, their own ones."""
RUN_KINDS: dict[str, Any] = {
    **KINDS,
    "global_step": int,
    "loops": {"fit_loop": {}},
    "callbacks": {"RunLog": {"wall_seconds": float}, "Evaluate": {"due": int}, "OpenLoopVideo": {"due": int}},
    "optimizer_states": list,
    "lr_schedulers": list,
    "dreamer": {
        **KINDS["dreamer"],
        "random": {"cpu": Tensor},
        "dataset": {"updates_due": int, "schedule": {}, "collector": {}, "replay": {}},
    },
}
"""What a run goes on from."""


class CheckpointFile(CheckpointIO):
    """Lightning's own one writes into the system's temporary folder first, which may be small and on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """The whole file is on disk when this returns. What a failure leaves is removed."""
        path, nbytes = Path(path), int(ROOM * sum(tensor.nbytes for _, tensor in tensors_of(checkpoint)))
        check_room(path, nbytes)
        try:
            with writing(path, nbytes), path.open("w+b") as file:
                torch.save(checkpoint, file)
                add_sum(file)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """`read_checkpoint` has checked it by now."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {**state, "state_dict": under_present_names(state["state_dict"])}

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, or an exported policy, as plain values; ValueError where there is none, or it is damaged."""
    if not path.is_file():
        raise ValueError(f"checkpoint={path} does not exist.")
    if path.suffix == policy_file.SUFFIX:
        state = policy_file.read_policy(path)
        check_kinds(state, KINDS, path)
    else:
        state = read_archive(path)
        check_kinds(state, RUN_KINDS, path)
        policy_file.check_header(state["dreamer"], path)
        check_optimizer(state["optimizer_states"], path)
        check_generator(state["dreamer"]["random"]["cpu"], path)
    for name, value in state["state_dict"].items():
        if not isinstance(value, Tensor):
            raise ValueError(f"checkpoint={path} is no whole one: state_dict.{name} is a {type(value).__name__}.")
    if (name := not_finite(state)) is not None:
        raise ValueError(f"checkpoint={path} is of no use: {name} holds values that are not finite.")
    return {**state, "state_dict": under_present_names(state["state_dict"])}


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
    """The values in a file of torch.save, once the sum over it was found right; ValueError where it was not."""
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
        if comment.startswith(SUM):
            if sum_over(file, size) != comment:
                raise ValueError("its sum differs")
            return
    with zipfile.ZipFile(path) as archive:  # of an earlier version, or written by torch alone: the sums of its records
        for record in archive.infolist():
            with archive.open(record) as content:
                while content.read(BLOCK):  # raises at the end of a record whose sum differs
                    pass


def peek(path: Path) -> dict[str, Any]:
    """A checkpoint of this run, unchecked; its tensors are mapped and not read, which takes milliseconds."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def check_kinds(state: Any, kinds: dict[str, Any], path: Path, name: str = "") -> None:
    """ValueError that names the first entry of a checkpoint which is missing or of another kind than expected."""
    for key, kind in kinds.items():
        full = f"{name}{key}"
        if key not in state:
            raise ValueError(
                f"checkpoint={path} is no whole one: it has no {full}. Another version of this project, or another "
                "program, may have written it."
            )
        value, expected = state[key], dict if isinstance(kind, dict) else kind
        if not isinstance(value, (float, int) if expected is float else expected) or isinstance(value, bool):
            raise ValueError(
                f"checkpoint={path} is no whole one: {full} is a {type(value).__name__}, expected {expected.__name__}."
            )
        if expected is int and value < 0:
            raise ValueError(f"checkpoint={path} is no whole one: {full} is {value}.")
        if isinstance(kind, dict):
            check_kinds(value, kind, path, f"{full}.")


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


def check_generator(random: Tensor, path: Path) -> None:
    """ValueError where this is no state of torch's generator."""
    ours = torch.get_rng_state()
    if random.dtype != ours.dtype or random.shape != ours.shape:
        raise ValueError(f"checkpoint={path} is no whole one: dreamer.random.cpu is no state of torch's generator.")


def not_finite(state: dict[str, Any]) -> str | None:
    """Of weights and optimizer, the first tensor that holds an infinite value or none at all."""
    parts = {key: state[key] for key in ("state_dict", "optimizer_states") if key in state}
    named = {name: tensor for name, tensor in tensors_of(parts) if tensor.is_floating_point() and tensor.numel()}
    if not named:
        return None
    largest = torch.stack(torch._foreach_norm(list(named.values()), float("inf")))  # one wait for a GPU
    return next((name for name, value in zip(named, largest.tolist(), strict=True) if not math.isfinite(value)), None)


def tensors_of(state: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in nested dictionaries and lists, with its place."""
    if isinstance(state, Tensor):
        yield name, state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from tensors_of(value, f"{name}.{key}" if name else str(key))
    elif isinstance(state, (list, tuple)):
        for index, value in enumerate(state):
            yield from tensors_of(value, f"{name}.{index}" if name else str(index))

"""What the files of an agent must hold: checks of checkpoints, exported agents and what a run saves."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dreamer.config.compose import shown

DTYPES = (torch.float32, torch.int64)  # of the weights and counters of an agent


def check_weights(weights: dict[str, Tensor], path: Path) -> None:
    """ValueError, by the name of the tensor, for what no agent has or can act with."""
    for key, tensor in weights.items():
        if tensor.dtype not in DTYPES:
            raise ValueError(f"checkpoint={path} is of another architecture: {shown(key)} is {tensor.dtype}.")
    if (name := not_finite({"state_dict": weights})) is not None:
        raise ValueError(f"checkpoint={path} is of no use: {shown(name)} holds values that are not finite.")


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


def not_finite(state: dict[str, Any]) -> str | None:
    """Of weights and optimizer, the name of the first tensor that holds inf or nan."""
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

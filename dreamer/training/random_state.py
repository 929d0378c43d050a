"""torch's random generators of the CPU and of the device in use. NumPy's are owned by replay and collector."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

State = dict[str, Tensor]


def get_state(device: torch.device) -> State:
    """Both generators, as byte tensors; other devices are not touched."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_state(state: State, device: torch.device) -> None:
    """What `get_state` returned; a run that goes on with another kind of device keeps that device's own generator."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def forked(seed: int, device: torch.device) -> Iterator[None]:
    """The generators start from `seed` inside, and go on outside as if nothing had been drawn."""
    state = get_state(device)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        set_state(state, device)

"""On what a run computes, and how exactly."""

from __future__ import annotations

from typing import Literal

import torch


def choose_device(name: str, number: int = 0) -> torch.device:
    """trainer.device as torch's, the one of this number; auto takes CUDA where there is one, else the CPU.

    Whether there are so many is asked before (ranks/group.py: check_devices).
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available[name]:
        raise ValueError(f"trainer.device={name} is not available with this torch on this machine; use auto or cpu.")
    return torch.device(name, number) if name == "cuda" else torch.device(name)


def choose_precision(name: str, device: torch.device) -> Literal["float32", "bfloat16"]:
    """trainer.precision; auto takes bfloat16 on a CUDA device that has it, float32 elsewhere."""
    is_fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if name == "bfloat16" or (name == "auto" and is_fast) else "float32"


def synchronize(device: torch.device) -> None:
    """Wait for what this thread gave to the device; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


def device_name(device: torch.device) -> str:
    """What a GPU's maker calls it; `cpu` or `mps` else."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

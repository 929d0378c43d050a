"""Runs of a few hundred steps that tests start, and how two saved states are compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from dreamer.config.schema import Config
from dreamer.training.run import prepare

COUNTER = ("env=dummy_counter", "env.obs=both", "trainer.video_every=0")
NO_EVALUATION = "trainer.eval_every=0"


def train(tiny: Callable[..., Config], path: Path, max_steps: int, *words: str) -> None:
    prepare(tiny(f"run_dir={path}", f"trainer.max_steps={max_steps}", *words)).fit()


def differing(one: object, other: object, name: str = "") -> list[str]:
    """Names of the entries of two nested states that are not equal, bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = one.keys() | other.keys()
        return [path for key in keys for path in differing(one.get(key), other.get(key), f"{name}/{key}")]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return differing(dict(enumerate(one)), dict(enumerate(other)), name)
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [name]
    return [] if type(one) is type(other) and one == other else [name]

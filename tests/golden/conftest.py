"""Fixtures computed by the authors' code, and how to compare with them (tests/golden/README.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dreamer.nn import distributions


class Golden:
    """One fixture file: arrays by name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with np.load(path) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.compared: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def array(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(np.array(self.arrays[name]))

    def names(self, prefix: str) -> list[str]:
        return [name for name in self.arrays if name.startswith(prefix)]

    def close(self, name: str, got: Any, rtol: float, atol: float) -> None:
        """|got - expected| <= atol + rtol |expected|, elementwise."""
        expected = np.asarray(self.arrays[name], np.float64)
        got = np.asarray(got.detach() if isinstance(got, Tensor) else got, np.float64)
        assert got.shape == expected.shape, (name, got.shape, expected.shape)
        excess = np.abs(got - expected) - (atol + rtol * np.abs(expected))
        assert (excess <= 0).all(), (
            f"{self.path.name}:{name}: {int((excess > 0).sum())} of {excess.size} entries off, "
            f"worst by {np.abs(got - expected).max():.3g} (largest expected {np.abs(expected).max():.3g})"
        )
        self.compared.add(name)

    def close_grad(self, name: str, got: Any) -> None:
        """A gradient: rtol 1e-3, atol 2e-5 of the array's largest entry."""
        self.close(name, got, 1e-3, 2e-5 * float(np.abs(self.arrays[name]).max()))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str], Golden]:
    directory = Path(request.config.getoption("--golden-dir"))
    return lambda name: Golden(directory / f"{name}.npz")


@pytest.fixture
def mode_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deterministic draws as in the fixtures: the most likely class, and mean + 0.5 std."""
    monkeypatch.setattr(distributions, "sample_index", lambda probs, noise=None: probs.argmax(-1))
    monkeypatch.setattr(distributions, "sample_normal", lambda mean, std, noise=None: mean + 0.5 * std)

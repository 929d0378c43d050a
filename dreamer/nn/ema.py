"""Slowly moving things: the slow critic and the percentile range of returns."""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float
from torch import Tensor, nn


class SlowCopy(nn.Module):
    """Exponential moving average of a module's weights: slow <- rate * fast + (1 - rate) * slow.

    Starts as an exact copy; `track` is called after every optimizer step and mixes at calls 0, every, 2 every, ...
    """

    count: Tensor

    def __init__(self, source: nn.Module, rate: float, every: int = 1) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)
        self.rate, self.every = rate, every
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def track(self, source: nn.Module) -> None:
        if self.every == 1 or int(self.count) % self.every == 0:
            torch._foreach_lerp_(list(self.module.parameters()), list(source.parameters()), self.rate)
        self.count += 1


class PercentileRange(nn.Module):
    """Moving average of two percentiles (the paper's return normalisation); `range` holds them as [low, high].

    Starts at 0 without bias correction. The scale is max(limit, high - low).
    """

    range: Tensor
    percentiles: Tensor

    def __init__(self, rate: float = 0.01, low: float = 5.0, high: float = 95.0, limit: float = 1.0) -> None:
        super().__init__()
        self.rate, self.limit = rate, limit
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("percentiles", torch.tensor([low, high]) / 100, persistent=False)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "*shape"]) -> None:
        self.range.lerp_(torch.quantile(x.float().flatten(), self.percentiles), self.rate)

    def low_and_scale(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        low, high = self.range
        return low.clone(), (high - low).clamp(min=self.limit)

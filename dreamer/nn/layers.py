"""Layers with the authors' initialiser and normalisation: Linear, BlockLinear, RMSNorm, MLP."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def init_weight_(weight: Tensor, fan_in: int, outscale: float = 1.0) -> Tensor:
    """Truncated normal on [-2, 2] times 1.1368 / sqrt(fan_in), which has standard deviation 1 / sqrt(fan_in)."""
    with torch.no_grad():
        nn.init.trunc_normal_(weight, 0.0, 1.0, -2.0, 2.0)
        return weight.mul_(outscale * 1.1368 / math.sqrt(fan_in))


class Linear(nn.Linear):
    """y = x W + b with the authors' initialiser."""

    def __init__(self, in_features: int, out_features: int, outscale: float = 1.0) -> None:
        self.outscale = outscale
        super().__init__(in_features, out_features)

    def reset_parameters(self) -> None:
        init_weight_(self.weight, self.in_features, self.outscale)
        nn.init.zeros_(self.bias)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, computed in float32."""

    def __init__(self, size: int, eps: float = 1e-4) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Float[Tensor, "*batch size"]) -> Float[Tensor, "*batch size"]:
        return F.rms_norm(x.float(), self.scale.shape, self.scale, self.eps).to(x.dtype)


class BlockLinear(nn.Module):
    """Block-diagonal linear layer: the input is cut into G contiguous chunks, each with its own matrix.

    `shared` inputs are appended to every chunk: chunk g sees [x_g, shared]. fan_in is the full input width.
    weight [G, in/G + shared, out/G]
    """

    def __init__(self, in_features: int, out_features: int, blocks: int, shared: int = 0) -> None:
        super().__init__()
        assert in_features % blocks == 0 and out_features % blocks == 0, (in_features, out_features, blocks)
        self.blocks, self.chunk = blocks, in_features // blocks
        self.weight = nn.Parameter(torch.empty(blocks, self.chunk + shared, out_features // blocks))
        self.bias = nn.Parameter(torch.zeros(out_features))
        init_weight_(self.weight, in_features + blocks * shared)

    def forward(
        self, x: Float[Tensor, "*batch in"], shared: Float[Tensor, "*batch shared"] | None = None
    ) -> Float[Tensor, "*batch out"]:
        chunks = x.unflatten(-1, (self.blocks, self.chunk))
        if shared is not None:
            chunks = torch.cat([chunks, shared.unsqueeze(-2).expand(*chunks.shape[:-1], -1)], -1)
        y = torch.bmm(chunks.flatten(0, -3).transpose(0, 1), self.weight).transpose(0, 1)
        return y.flatten(1).unflatten(0, x.shape[:-1]) + self.bias


class Dense(nn.Module):
    """Linear, RMSNorm, SiLU: one hidden layer. The linear layer keeps its bias beneath the norm."""

    def __init__(self, in_features: int, units: int) -> None:
        super().__init__()
        self.linear = Linear(in_features, units)
        self.norm = RMSNorm(units)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch units"]:
        return F.silu(self.norm(self.linear(x)))


class MLP(nn.Sequential):
    """`layers` hidden layers of `units`."""

    def __init__(self, in_features: int, units: int, layers: int) -> None:
        super().__init__(*(Dense(in_features if i == 0 else units, units) for i in range(layers)))
        self.out_features = units if layers else in_features

"""Heads on the latent feature: two-hot scalars (reward, value), the continue flag, the actor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.nn.distributions import ActionDist, DiscreteAction, NormalAction, TanhNormalAction
from dreamer.nn.layers import MLP, Linear
from dreamer.ops.symlog import symexp_bins, two_hot_loss, two_hot_mean
from dreamer.types import Space


class TwoHotHead(nn.Module):
    """A scalar as a categorical over symexp-spaced bins. feat [... F] -> logits [... bins]"""

    bins: Tensor

    def __init__(self, features: int, units: int, layers: int, bins: int, outscale: float) -> None:
        super().__init__()
        self.mlp = MLP(features, units, layers)
        self.out = Linear(self.mlp.out_features, bins, outscale)
        self.register_buffer("bins", symexp_bins(bins), persistent=False)

    def forward(self, feat: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch bins"]:
        return self.out(self.mlp(feat)).float()

    def mean(self, logits: Float[Tensor, "*batch bins"]) -> Float[Tensor, "*batch"]:
        return two_hot_mean(logits, self.bins)

    def loss(self, logits: Float[Tensor, "*batch bins"], target: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return two_hot_loss(logits, target, self.bins)


class ContHead(nn.Module):
    """Probability that the episode goes on, discount included. feat [... F] -> logit [...]"""

    def __init__(self, features: int, units: int, layers: int, outscale: float) -> None:
        super().__init__()
        self.mlp = MLP(features, units, layers)
        self.out = Linear(self.mlp.out_features, 1, outscale)

    def forward(self, feat: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch"]:
        return self.out(self.mlp(feat)).float().squeeze(-1)

    def loss(self, logit: Float[Tensor, "*batch"], target: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return F.binary_cross_entropy_with_logits(logit, target, reduction="none")


class ActorHead(nn.Module):
    """The policy. Continuous: Normal(tanh(m), (max - min) sigmoid(s + 2) + min); discrete: one categorical per choice.

    Differs from the paper: discrete choices have a uniform share only if `unimix` > 0 (the authors' code has none).
    dist="tanh_normal": tanh of Normal(5 tanh(m / 5), same std).
    """

    def __init__(
        self,
        features: int,
        units: int,
        layers: int,
        action_space: Space,
        dist: str,
        min_std: float,
        max_std: float,
        outscale: float,
        unimix: float,
    ) -> None:
        super().__init__()
        self.action_space, self.dist, self.unimix = action_space, dist, unimix
        self.min_std, self.max_std = min_std, max_std
        self.mlp = MLP(features, units, layers)
        if action_space.is_discrete:
            self.logits = Linear(self.mlp.out_features, action_space.size, outscale)
        else:
            self.mean = Linear(self.mlp.out_features, action_space.size, outscale)
            self.std = Linear(self.mlp.out_features, action_space.size, outscale)

    def forward(self, feat: Float[Tensor, "*batch F"]) -> ActionDist:
        return self.distribution(self.mlp(feat))

    def distribution(self, x: Float[Tensor, "*batch U"]) -> ActionDist:
        if self.action_space.is_discrete:
            return DiscreteAction(self.logits(x), self.action_space.classes, self.unimix)
        mean, std = self.mean(x).float(), self.std(x).float()
        std = (self.max_std - self.min_std) * torch.sigmoid(std + 2) + self.min_std
        if self.dist == "tanh_normal":
            return TanhNormalAction(5 * torch.tanh(mean / 5), std)
        return NormalAction(torch.tanh(mean), std)

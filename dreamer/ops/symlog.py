"""symlog, symexp and the symexp two-hot distribution (the paper's robust predictions)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def symlog(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sign(x) ln(1 + |x|)."""
    return torch.sign(x) * torch.log1p(torch.abs(x))


def symexp(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """sign(x) (exp(|x|) - 1), the inverse of symlog."""
    return torch.sign(x) * torch.expm1(torch.abs(x))


def symexp_bins(num_bins: int, limit: float = 20.0) -> Float[Tensor, " bins"]:
    """symexp of equidistant points in [-limit, limit], exactly symmetric: one half mirrors the other."""
    half = num_bins // 2
    negative = symexp(torch.linspace(-limit, 0.0, half + num_bins % 2))
    return torch.cat([negative, -negative[:half].flip(0)])


def two_hot_mean(logits: Float[Tensor, "*batch bins"], bins: Float[Tensor, " bins"]) -> Float[Tensor, "*batch"]:
    """Expected bin under softmax(logits), in raw space.

    Mirrored bins are paired before the sum, so that symmetric logits give exactly 0 although the outer
    bins are near 5e8. They are paired after the product: torch.compile (2.13, CPU) makes a wrong gradient of
    (probs[..., -half:] - probs[..., :half].flip(-1)) * bins[-half:].
    """
    shares = torch.softmax(logits.float(), dim=-1) * bins
    half = bins.shape[0] // 2
    return (shares[..., -half:] + shares[..., :half].flip(-1)).sum(-1)


def two_hot_loss(
    logits: Float[Tensor, "*batch bins"], target: Float[Tensor, "*batch"], bins: Float[Tensor, " bins"]
) -> Float[Tensor, "*batch"]:
    """Cross-entropy against the target spread over its two neighbouring bins, weighted linearly in raw space.

    A target beyond the outermost bins falls on that bin. No gradient reaches the target.
    """
    logits, target = logits.float(), target.detach()
    above = torch.searchsorted(bins, target.contiguous(), right=True)
    below = (above - 1).clamp(min=0)
    above = above.clamp(max=bins.shape[0] - 1)
    to_below, to_above = (target - bins[below]).abs(), (bins[above] - target).abs()
    is_end = below == above
    weight_below = torch.where(is_end, 1.0, to_above / torch.where(is_end, 1.0, to_below + to_above))
    picked = logits.gather(-1, torch.stack([below, above], dim=-1))
    return torch.logsumexp(logits, dim=-1) - weight_below * picked[..., 0] - (1 - weight_below) * picked[..., 1]

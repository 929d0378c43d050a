"""Categorical probabilities mixed with a uniform share, and the two KL losses of the world model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def unimix_log_probs(logits: Float[Tensor, "*batch K"], unimix: float) -> Float[Tensor, "*batch K"]:
    """log((1 - unimix) softmax(logits) + unimix / K), float32."""
    logits = logits.float()
    if unimix == 0:
        return torch.log_softmax(logits, dim=-1)
    return torch.log((1 - unimix) * torch.softmax(logits, dim=-1) + unimix / logits.shape[-1])


def categorical_kl(log_p: Float[Tensor, "*batch S K"], log_q: Float[Tensor, "*batch S K"]) -> Float[Tensor, "*batch"]:
    """KL(p || q) summed over the groups."""
    return (log_p.exp() * (log_p - log_q)).sum((-2, -1))


def kl_losses(
    post_logits: Float[Tensor, "*batch S K"],
    prior_logits: Float[Tensor, "*batch S K"],
    unimix: float,
    free_nats: float,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Dynamics loss max(free, KL(sg post || prior)) and representation loss max(free, KL(post || sg prior)).

    Clamp after the sum over groups: free nats count per latent, not per group.
    """
    post, prior = unimix_log_probs(post_logits, unimix), unimix_log_probs(prior_logits, unimix)
    dyn = categorical_kl(post.detach(), prior).clamp(min=free_nats)
    rep = categorical_kl(post, prior.detach()).clamp(min=free_nats)
    return dyn, rep

"""Distributions of latents and actions. Sampling lives in `sample_index` and `sample_normal` alone.

Both take the random numbers that they turn into samples as `noise`, or without it draw from torch's global generator.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor


def sample_index(
    probs: Float[Tensor, "*batch K"], noise: Float[Tensor, "*batch"] | None = None
) -> Int[Tensor, "*batch"]:
    """A class index drawn by inverting the cumulative distribution; noise is uniform in [0, 1)."""
    if noise is None:
        noise = torch.rand(probs.shape[:-1], device=probs.device)
    return (probs.cumsum(-1) < noise.unsqueeze(-1)).sum(-1).clamp(max=probs.shape[-1] - 1)


def sample_normal(
    mean: Float[Tensor, "*batch"], std: Float[Tensor, "*batch"], noise: Float[Tensor, "*batch"] | None = None
) -> Float[Tensor, "*batch"]:
    """mean + std * noise; noise is standard normal."""
    return mean + std * (torch.randn_like(mean) if noise is None else noise)


def one_hot(index: Int[Tensor, "*batch"], classes: int) -> Float[Tensor, "*batch K"]:
    """float32 one-hot vectors."""
    return (index.unsqueeze(-1) == torch.arange(classes, device=index.device)).float()


def straight_through(
    logits: Float[Tensor, "*batch S K"], unimix: float, noise: Float[Tensor, "*batch S"] | None = None
) -> Float[Tensor, "*batch S K"]:
    """One-hot samples of softmax(logits) with a uniform share; gradients go through the mixed probabilities."""
    probs = (1 - unimix) * torch.softmax(logits.float(), dim=-1) + unimix / logits.shape[-1]
    sample = one_hot(sample_index(probs.detach(), noise), probs.shape[-1])
    return sample + (probs - probs.detach())


def categorical_entropy(logits: Float[Tensor, "*batch S K"], unimix: float) -> Float[Tensor, "*batch"]:
    """Entropy in nats, summed over the groups."""
    log_probs = unimix_log_probs(logits, unimix)
    return -(log_probs.exp() * log_probs).sum((-2, -1))


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


class NormalAction:
    """Diagonal normal; mean and std [... A]. Samples are not squashed (the environment clips them)."""

    def __init__(self, mean: Float[Tensor, "*batch A"], std: Float[Tensor, "*batch A"]) -> None:
        self.mean, self.std = mean.float(), std.float()

    def sample(self, noise: Float[Tensor, "*batch A"] | None = None) -> Float[Tensor, "*batch A"]:
        return sample_normal(self.mean.detach(), self.std.detach(), noise)

    def mode(self) -> Float[Tensor, "*batch A"]:
        return self.mean.detach()

    def rsample(self) -> Float[Tensor, "*batch A"]:
        """A sample through which gradients reach mean and std."""
        return sample_normal(self.mean, self.std)

    def log_prob(self, action: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
        score = (action - self.mean) / self.std
        return (-0.5 * score.square() - self.std.log() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        return (self.std.log() + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class TanhNormalAction:
    """tanh of a diagonal normal, as older agents use; not the paper's. Its entropy has no closed form.

    entropy: that of the normal plus E[log |d tanh(u) / du|], the expectation from one reparametrised sample.
    """

    def __init__(self, mean: Float[Tensor, "*batch A"], std: Float[Tensor, "*batch A"]) -> None:
        self.base = NormalAction(mean, std)

    def sample(self, noise: Float[Tensor, "*batch A"] | None = None) -> Float[Tensor, "*batch A"]:
        return torch.tanh(self.base.sample(noise))

    def mode(self) -> Float[Tensor, "*batch A"]:
        """tanh of the normal's mean, as older agents take it; the density is highest a little beyond it."""
        return torch.tanh(self.base.mode())

    def rsample(self) -> Float[Tensor, "*batch A"]:
        return torch.tanh(self.base.rsample())

    def log_prob(self, action: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
        # float32 tanh reaches +-1 exactly, where atanh is infinite.
        inner = torch.atanh(action.clamp(-1 + 1e-6, 1 - 1e-6))
        return self.base.log_prob(inner) - self.log_slope(inner).sum(-1)

    def entropy(self) -> Float[Tensor, "*batch"]:
        inner = sample_normal(self.base.mean, self.base.std)
        return self.base.entropy() + self.log_slope(inner).sum(-1)

    @staticmethod
    def log_slope(inner: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """log(1 - tanh(u)^2), written so that it does not underflow."""
        return 2 * (math.log(2) - inner - torch.nn.functional.softplus(-2 * inner))


class DiscreteAction:
    """Independent categorical choices, one per entry of `classes`; logits [... sum(classes)], actions int32 [... n]."""

    def __init__(self, logits: Float[Tensor, "*batch L"], classes: tuple[int, ...], unimix: float) -> None:
        self.log_probs = [unimix_log_probs(part, unimix) for part in logits.split(classes, dim=-1)]

    def sample(self, noise: Float[Tensor, "*batch n"] | None = None) -> Int[Tensor, "*batch n"]:
        noises = [None] * len(self.log_probs) if noise is None else noise.unbind(-1)
        picked = [sample_index(part.detach().exp(), one) for part, one in zip(self.log_probs, noises, strict=True)]
        return torch.stack(picked, dim=-1).to(torch.int32)

    def mode(self) -> Int[Tensor, "*batch n"]:
        return torch.stack([part.argmax(-1) for part in self.log_probs], dim=-1).to(torch.int32)

    def log_prob(self, action: Int[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        picked = [part.gather(-1, action[..., i : i + 1].long()).squeeze(-1) for i, part in enumerate(self.log_probs)]
        return torch.stack(picked).sum(0)

    def entropy(self) -> Float[Tensor, "*batch"]:
        return torch.stack([-(part.exp() * part).sum(-1) for part in self.log_probs]).sum(0)


ActionDist = NormalAction | TanhNormalAction | DiscreteAction

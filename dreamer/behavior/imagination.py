"""Imagined trajectories: the policy acting inside the world model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dreamer.nn.distributions import ActionDist, DiscreteAction
from dreamer.types import Latent
from dreamer.world_model.world_model import WorldModel, action_vector, feature


class Rollout(NamedTuple):
    """N imagined trajectories of H steps: H1 = H + 1 states with the start; constants unless differentiable.

    feat[t] = [h_t, z_t]; action[t] was sampled in state t; reward[t] and cont[t] (a probability, discount included)
    are what the heads predict for state t.
    """

    feat: Float[Tensor, "N H1 F"]
    action: Shaped[Tensor, "N H1 n"]
    reward: Float[Tensor, "N H1"]
    cont: Float[Tensor, "N H1"]

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients lead from it back to the actor."""
        return self.feat.requires_grad

    def detached(self) -> Rollout:
        return Rollout(*(part.detach() for part in self))


def dream_step(
    world_model: WorldModel, actor: Callable[[Tensor], ActionDist], latent: Latent
) -> tuple[Float[Tensor, "N F"], Shaped[Tensor, "N n"], Latent]:
    """The feature of a state, an action sampled there, and the next state."""
    feat = feature(latent)
    policy = actor(feat.detach())
    draw = policy.sample if isinstance(policy, DiscreteAction) or not torch.is_grad_enabled() else policy.rsample
    action = draw()
    return feat, action, world_model.rssm.imagine_step(latent, action_vector(action, world_model.action_space))


def imagine(
    world_model: WorldModel,
    actor: Callable[[Tensor], ActionDist],
    start: Latent,
    horizon: int,
    is_differentiable: bool = False,
    step: Callable[..., tuple[Tensor, Tensor, Latent]] = dream_step,
) -> Rollout:
    """Roll out `horizon` steps from start [N] with prior samples and sampled actions: horizon + 1 states.

    is_differentiable: gradients flow back from every state and prediction to the actor, through latents (straight
    through the samples) and actions. What the actor sees counts as a constant, as in the code of arXiv:2301.04104v1,
    so later actions do not react. No gradient reaches the world model's weights, constants here.
    """
    latent, actions = start, []
    device = start.deter.device
    is_half = torch.is_autocast_enabled(device.type)
    with frozen(world_model) if is_differentiable else torch.no_grad():
        # Writing into one buffer is faster than stacking (docs/performance.md).
        feat = torch.empty(
            len(start.deter), horizon + 1, world_model.features, device=device,
            dtype=torch.get_autocast_dtype(device.type) if is_half else torch.float32,
        )  # fmt: skip
        for t in range(horizon):
            feat[:, t], action, latent = step(world_model, actor, latent)
            actions.append(action)
        feat[:, horizon] = feature(latent)
        actions.append(actor(feat[:, horizon].detach()).sample())
        reward, cont = world_model.predict(feat)
    return Rollout(feat, torch.stack(actions, 1), reward, cont)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Gradients flow through these modules and not into their weights. Graphs from before keep theirs."""
    params = [p for module in modules for p in module.parameters() if p.requires_grad]
    for p in params:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in params:
            p.requires_grad_(True)

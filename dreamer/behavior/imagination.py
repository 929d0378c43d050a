"""Imagined trajectories: the policy acting inside the world model."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from dreamer.nn.distributions import ActionDist
from dreamer.types import Latent
from dreamer.world_model.world_model import WorldModel, action_vector, feature


class Rollout(NamedTuple):
    """N imagined trajectories of H steps, the start included; constants, no gradient flows through them.

    feat[t] = [h_t, z_t]; action[t] was sampled in state t; reward[t] and cont[t] (a probability, discount included)
    are what the heads predict for state t.
    """

    feat: Float[Tensor, "N H1 F"]
    action: Shaped[Tensor, "N H1 n"]
    reward: Float[Tensor, "N H1"]
    cont: Float[Tensor, "N H1"]


@torch.no_grad()
def imagine(world_model: WorldModel, actor: Callable[[Tensor], ActionDist], start: Latent, horizon: int) -> Rollout:
    """Roll out `horizon` steps from start [N] with prior samples and sampled actions: horizon + 1 states."""
    latent, feats, actions = start, [], []
    for t in range(horizon + 1):
        feats.append(feature(latent))
        actions.append(actor(feats[-1]).sample())
        if t < horizon:
            latent = world_model.rssm.imagine_step(latent, action_vector(actions[-1], world_model.action_space))
    feat = torch.stack(feats, 1)
    reward = world_model.reward.mean(world_model.reward(feat))
    cont = torch.sigmoid(world_model.cont(feat))
    return Rollout(feat, torch.stack(actions, 1), reward, cont)

"""The agent as collection sees it."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import nn

from dreamer import ranks
from dreamer.agent import Agent
from dreamer.envs.seeding import ACTING_STREAM, episode_seed
from dreamer.types import LatentArrays


class Player:
    """Implements the `Policy` protocol: an agent, what its way to explore adds, and a random generator of its own.

    With `own_weights` it acts with a copy of the weights as of the last `refresh`, so that updates may go on beside it.
    What does not act (decoder, reward, critic) is not copied but shared, and so is `standardize`, which changes only
    before the first update, when nothing acts.
    """

    def __init__(self, agent: Agent, seed: int, own_weights: bool) -> None:
        self._generator = torch.Generator(agent.device)
        self._generator.manual_seed(episode_seed(seed, ACTING_STREAM + ranks.rank(), 0))
        self._agent, self._policy_steps = agent, 0
        self._newest: list[torch.Tensor] = []  # weights of the agent, and in the same order those of the copy
        self._own: list[torch.Tensor] = []
        if own_weights:
            acting = (agent.world_model.encoder, agent.world_model.rssm, agent.actor_critic.actor)
            parts = (*agent.world_model.children(), *agent.actor_critic.children())
            shared: dict[int, nn.Module] = {id(part): part for part in (*parts, agent.explore) if part not in acting}
            self._agent = copy.deepcopy(agent, shared)
            own = (self._agent.world_model.encoder, self._agent.world_model.rssm, self._agent.actor_critic.actor)
            self._newest = [weight for part in acting for weight in part.parameters()]
            self._own = [weight for part in own for weight in part.parameters()]

    def initial(self, num_envs: int) -> LatentArrays:
        return self._agent.initial(num_envs)

    @torch.no_grad()
    def refresh(self) -> None:
        if self._own:
            torch._foreach_copy_(self._own, self._newest)

    def act(
        self, obs: dict[str, np.ndarray], prev_latent: LatentArrays, prev_action: np.ndarray, is_first: np.ndarray
    ) -> tuple[np.ndarray, LatentArrays]:
        action, latent = self._agent.act(obs, prev_latent, prev_action, is_first, self._generator)
        action = self._agent.explore.perturb(action, self._policy_steps, self._generator)
        self._policy_steps += len(is_first) * ranks.world_size()
        return action, latent

    def state_dict(self) -> dict[str, Any]:
        random = {self._generator.device.type: self._generator.get_state().numpy()}
        return {**random, "policy_steps": self._policy_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """What `state_dict` returned; a run that goes on with another kind of device begins its generator anew."""
        self._policy_steps = state["policy_steps"]
        if (mine := state.get(self._generator.device.type)) is not None:
            self._generator.set_state(torch.from_numpy(mine))

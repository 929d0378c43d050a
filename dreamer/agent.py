"""World model and actor critic as one module, and how it acts in an environment."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn

from dreamer.behavior.actor_critic import ActorCritic
from dreamer.config import LOSS_NAMES, ModelConfig
from dreamer.types import Latent, LatentArrays, Space
from dreamer.world_model.world_model import WorldModel, action_vector, feature


class Agent(nn.Module):
    """DreamerV3. training/player.py acts with it, training/module.py holds the losses of an update."""

    def __init__(
        self,
        config: ModelConfig,
        obs_space: dict[str, Space],
        action_space: Space,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        if clash := LOSS_NAMES.intersection(obs_space):
            raise ValueError(f"Observation keys {sorted(clash)} are names of losses; rename them in the environment.")
        self.config, self.obs_space, self.action_space, self.precision = config, obs_space, action_space, precision
        self.world_model = WorldModel(config, obs_space, action_space)
        self.actor_critic = ActorCritic(config, self.world_model.features, action_space)

    def loss_scale(self, name: str) -> float:
        """Weight of a loss in the total; every reconstructed key has that of `rec`."""
        scales = self.config.loss_scales
        return scales.rec if name in self.obs_space else getattr(scales, name)

    def autocast(self) -> torch.autocast:
        """bfloat16 products where `precision` says so; norms, losses and distributions stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def device(self) -> torch.device:
        return self.world_model.rssm.cell.gates.bias.device

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters as "world", "actor" and "critic"."""
        return {
            "world": list(self.world_model.parameters()),
            "actor": list(self.actor_critic.actor.parameters()),
            "critic": list(self.actor_critic.critic.parameters()),
        }

    def initial(self, num_envs: int) -> LatentArrays:
        rssm = self.world_model.rssm
        return {
            "deter": np.zeros((num_envs, rssm.deter), np.float32),
            "stoch": np.zeros((num_envs, rssm.groups), np.int16),
        }

    @torch.no_grad()
    def act(
        self,
        obs: dict[str, np.ndarray],
        prev_latent: LatentArrays,
        prev_action: np.ndarray,
        is_first: np.ndarray,
        generator: torch.Generator | None = None,
    ) -> tuple[np.ndarray, LatentArrays]:
        """One policy step in N environments, always sampling; see `types.Policy` for the shapes.

        Draws come from `generator`, or without one from torch's global generator.
        """
        device = self.device
        tensors = {key: torch.as_tensor(obs[key], device=device).unsqueeze(1) for key in self.obs_space}
        start = self.world_model.context(
            torch.as_tensor(prev_latent["deter"], device=device), torch.as_tensor(prev_latent["stoch"], device=device)
        )
        action = action_vector(torch.as_tensor(prev_action, device=device), self.action_space).unsqueeze(1)
        resets = torch.as_tensor(is_first, device=device).unsqueeze(1)
        with self.autocast():
            embed = self.world_model.encoder(tensors)
            latent, _ = self.world_model.rssm.observe(embed, action, resets, start, generator)
            latent = Latent(latent.deter[:, 0], latent.stoch[:, 0])
            sample = self.actor_critic.actor(feature(latent)).sample(generator)
        arrays = {
            "deter": latent.deter.float().cpu().numpy(),
            "stoch": latent.stoch.argmax(-1).to(torch.int16).cpu().numpy(),
        }
        return sample.cpu().numpy(), arrays

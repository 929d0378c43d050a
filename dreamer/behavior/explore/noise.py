"""explore=noise: the actions of collection are moved at random, less and less."""

from __future__ import annotations

import numpy as np
import torch

from dreamer.behavior.explore.policy import Explore
from dreamer.config.schema import ExploreConfig
from dreamer.types import Space


class Noise(Explore):
    """Adds Normal(0, noise_t) to continuous actions, and replaces a share noise_t of discrete choices by uniform ones.

    noise_t = explore.noise * max(0, 1 - policy_steps / explore.steps). A sum beyond [-1, 1] is left to the environment,
    which clips it as it clips a sample of the policy.
    """

    def __init__(self, config: ExploreConfig, action_space: Space) -> None:
        super().__init__()
        self.config, self.action_space = config, action_space

    def perturb(self, action: np.ndarray, policy_steps: int, generator: torch.Generator) -> np.ndarray:
        noise = self.config.noise * self.config.strength(policy_steps)
        draw = torch.randn if not self.action_space.is_discrete else torch.rand
        first = draw(action.shape, device=generator.device, generator=generator).cpu().numpy()
        if not self.action_space.is_discrete:
            return action + np.float32(noise) * first
        second = draw(action.shape, device=generator.device, generator=generator).cpu().numpy()
        choice = (second * np.array(self.action_space.classes)).astype(action.dtype)
        return np.where(first < noise, choice, action)

"""A real episode, row by row, with what the model makes of each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from dreamer.envs.spec import Env
from dreamer.types import TimeStep
from dreamer.viewer.model import Model, Seen, Told


@dataclass
class EpisodeRow:
    """row: what the environment gave; seen and told: what the model makes of it, and its reconstruction.

    action: what the policy then chose, [n]; frame: what a person would look at, None without a picture.
    """

    row: TimeStep
    seen: Seen
    told: Told
    reconstruction: dict[str, np.ndarray]
    action: np.ndarray
    frame: np.ndarray | None


class Episode:
    """One episode that the agent plays, with the actions of `Agent.session(seed=seed)`.

    draws_frames: whether rows carry `Env.frame`, besides what the agent sees.
    """

    def __init__(self, model: Model, env: Env, env_seed: int, seed: int, draws_frames: bool = False) -> None:
        self._model, self._env, self._draws_frames = model, env, draws_frames
        self._generator = torch.Generator().manual_seed(seed)
        self.rows: list[EpisodeRow] = []
        space = model.action_space
        self._append(env.reset(env_seed), np.zeros(space.shape, space.dtype))

    @property
    def is_over(self) -> bool:
        return self.rows[-1].row.is_last

    def advance(self) -> EpisodeRow:
        """Act once more; never after the last row."""
        assert not self.is_over
        action = self.rows[-1].action
        return self._append(self._env.step(action), action)

    def _append(self, row: TimeStep, prev_action: np.ndarray) -> EpisodeRow:
        model = self._model
        latent = self.rows[-1].seen.latent if self.rows else model.nothing()
        noise_z, noise_action = model.agent.draw_noise(1, self._generator)
        seen = model.see(latent, row.obs, prev_action, row.is_first, noise_z)
        decoded = {key: value[0] for key, value in model.decode(seen.latent, 1).items()}
        told = Told(*(value[0] for value in model.tell(seen.latent)))
        frame = self._env.frame() if self._draws_frames else None
        self.rows.append(EpisodeRow(row, seen, told, decoded, model.act(seen.latent, noise_action)[0], frame))
        return self.rows[-1]

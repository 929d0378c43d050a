"""explore=policy: the policy's own entropy after random first steps; the other ways change what they have a use for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.behavior.imagination import Rollout
from dreamer.types import Batch
from dreamer.world_model.world_model import Observed


class Explored(NamedTuple):
    """A rollout and a batch with the rewards that actor and critic learn from, losses [B _] and metrics by name."""

    rollout: Rollout
    batch: Batch
    losses: dict[str, Float[Tensor, "B _"]]
    metrics: dict[str, Float[Tensor, ""]]


class Explore(nn.Module):
    """What a way to explore may do: move the actions of collection, and pay in imagination."""

    def perturb(self, action: np.ndarray, policy_steps: int, generator: torch.Generator) -> np.ndarray:
        """The action [N n] to take after so many policy steps of the run; all draws come from `generator`."""
        return action

    def fade(self, policy_steps: int) -> None:
        """Called before each update, of a run that has taken so many policy steps."""

    def forward(self, rollout: Rollout, batch: Batch, post: Observed) -> Explored:
        """What actor and critic learn from in an update, `post` being the posterior of the batch."""
        return Explored(rollout, batch, {}, {})

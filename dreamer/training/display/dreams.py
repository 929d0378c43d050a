"""Films of what the world model predicts, beside what happened: it sees the first frames, then only the actions."""

from __future__ import annotations

import numpy as np
import torch
from lightning.pytorch.utilities import move_data_to_device

from dreamer.agent import Agent
from dreamer.training import random_state
from dreamer.training.display.films import open_loop_frames
from dreamer.types import Batch

CONTEXT = 5  # frames that the model sees before it dreams on, as in the paper


def dream_films(agent: Agent, batch: Batch, seed: int, context: int = CONTEXT) -> dict[str, list[np.ndarray]]:
    """Picture key -> frames uint8 [h w 3]: all sequences side by side as `open_loop_frames` draws them."""
    with random_state.forked(seed, agent.device), agent.autocast(), torch.no_grad():
        model = agent.world_model.open_loop(move_data_to_device(batch, agent.device), context)
    return {
        key: open_loop_frames(batch.obs[key].float() / 255, model[key], context)
        for key, space in agent.obs_space.items()
        if space.is_image
    }


def pieces(episode: Batch, count: int, length: int) -> Batch:
    """`count` pieces of an episode [1 T], evenly spread and of `length` rows (all T if it is shorter), as one batch.

    The model starts each from nothing, as if its first row were a reset.
    """
    rows = episode.is_first.shape[1]
    length = min(length, rows)
    starts = np.unique(np.linspace(0, rows - length, count).round().astype(int))

    def cut(column: torch.Tensor) -> torch.Tensor:
        return torch.cat([column[:, start : start + length] for start in starts])

    is_first = cut(episode.is_first)
    is_first[:, 0] = True
    return Batch(
        obs={key: cut(value) for key, value in episode.obs.items()},
        prev_action=cut(episode.prev_action),
        reward=cut(episode.reward),
        is_first=is_first,
        is_last=cut(episode.is_last),
        is_terminal=cut(episode.is_terminal),
        context_deter=episode.context_deter.repeat(len(starts), 1),
        context_stoch=episode.context_stoch.repeat(len(starts), 1),
        row_ids=episode.row_ids.repeat(len(starts), 1),
    )

"""Episodes with a trained agent: what training and scripts/evaluate.py call evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from dreamer.agent import Agent
from dreamer.envs.seeding import EVALUATION_STREAM, episode_seed
from dreamer.envs.spec import Env
from dreamer.training import generators

MAX_FRAMES = 4000  # of a recording: more than the longest episode of the Control Suite, half a gigabyte at most


class Evaluation(NamedTuple):
    """returns, lengths (policy steps) of each episode; frames: pictures of the first, [h w 3] uint8, maybe none."""

    returns: list[float]
    lengths: list[int]
    frames: list[np.ndarray]

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over the episodes (population)."""
        return float(np.std(self.returns))


def evaluate(agent: Agent, env: Env, episodes: int, seed: int, max_length: int, record: bool = False) -> Evaluation:
    """Run `episodes` episodes with sampled actions: whole ones, unless one takes more than `max_length` policy steps.

    Episode i starts from a seed that `seed` and i determine and that training never uses. Draws come from a generator
    of its own, so an evaluation in between changes nothing of the training that goes on after it.
    """
    returns, lengths, frames = [], [], []
    with generators.forked(seed, agent.device):
        for index in range(episodes):
            ret, length = 0.0, 0
            rows = episode(agent, env, episode_seed(seed, EVALUATION_STREAM, index), record and not index)
            for reward, frame in islice(rows, max_length + 1):
                ret, length = ret + reward, length + 1
                if frame is not None and length <= MAX_FRAMES:
                    frames.append(frame)
            returns.append(ret)
            lengths.append(length - 1)  # the first row is the reset
    return Evaluation(returns, lengths, frames)


def episode(agent: Agent, env: Env, seed: int, record: bool) -> Iterator[tuple[float, np.ndarray | None]]:
    """The rewards of one episode, row by row, with pictures if `record`."""
    space = env.action_space
    latent, action = agent.initial(1), np.zeros((1, *space.shape), space.dtype)
    row = env.reset(seed)
    while True:
        yield row.reward, env.frame() if record else None
        if row.is_last:
            return
        obs = {key: np.asarray(value)[None] for key, value in row.obs.items()}
        action, latent = agent.act(obs, latent, action, np.array([row.is_first]))
        row = env.step(action[0])

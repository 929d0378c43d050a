"""Episodes with a trained agent: what training and scripts/evaluate.py call evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import move_data_to_device
from torch import Tensor

from dreamer.agent import Agent
from dreamer.data.stepper import Waiting
from dreamer.envs.seeding import EVALUATION_STREAM, episode_seed
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.spec import Env
from dreamer.envs.vector import shortened
from dreamer.errors import RunStopped
from dreamer.training import random_state
from dreamer.types import Batch, TimeStep

MAX_ROWS = 512  # of an episode, to measure the world model on: about as many as the default batch holds
MAX_FRAMES = 4000  # of a recording: more than the longest episode of the Control Suite, half a gigabyte at most


class EpisodeStep(NamedTuple):
    """A row of an episode, the action [1 n] that led to it (zeros at the reset), and its picture if recorded."""

    row: TimeStep
    action: np.ndarray
    frame: np.ndarray | None


class Evaluation(NamedTuple):
    """returns, lengths (policy steps) of each episode; frames: pictures of the first, [h w 3] uint8, maybe none.

    sequences: if they were kept, the first MAX_ROWS rows of each episode, as batches of one.
    """

    returns: list[float]
    lengths: list[int]
    frames: list[np.ndarray]
    sequences: list[Batch]

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation over the episodes (population)."""
        return float(np.std(self.returns))


class Watched:
    """An environment of which `waiting` says, to another thread, how long it takes to answer.

    What it raises, SystemExit too, becomes a RunStopped that shows where; an UnsoundRow stays what it is.
    """

    def __init__(self, env: Env, waiting: Waiting) -> None:
        self.env, self.waiting = env, waiting
        self.obs_space, self.action_space = env.obs_space, env.action_space
        self.env_steps_per_action = env.env_steps_per_action

    def reset(self, seed: int) -> TimeStep:
        with self._asked():
            return self.env.reset(seed)

    def step(self, action: np.ndarray) -> TimeStep:
        with self._asked():
            return self.env.step(action)

    def frame(self) -> np.ndarray | None:
        with self._asked():
            return self.env.frame()

    def close(self) -> None:
        self.env.close()

    @contextmanager
    def _asked(self) -> Iterator[None]:
        try:
            with self.waiting:
                yield
        except UnsoundRow:
            raise
        except (Exception, SystemExit) as error:
            raise RunStopped(f"The environment of the evaluation raised an error:\n{shortened(error)}") from error


def evaluate(
    agent: Agent,
    env: Env,
    episodes: int,
    seed: int,
    max_length: int,
    record: bool = False,
    keep_rows: bool = False,
    is_stopped: Callable[[], bool] = lambda: False,
    cuts_faults: bool = False,
) -> Evaluation:
    """Run `episodes` episodes with sampled actions: whole ones, unless one takes more than `max_length` policy steps.

    Episode i starts from a seed that `seed` and i determine and that training never uses. Draws come from a generator
    of its own, so an evaluation in between changes nothing of the training that goes on after it. It is left early,
    with what there is, once `is_stopped` says so. An UnsoundRow is raised, or with `cuts_faults` ends its episode.
    """
    result = Evaluation([], [], [], [])
    with random_state.forked(seed, agent.device):
        for index in range(episodes):
            ret, length, kept = 0.0, 0, []
            steps = episode(agent, env, episode_seed(seed, EVALUATION_STREAM, index), record and not index, cuts_faults)
            for step in islice(steps, max_length + 1):
                if is_stopped():
                    return result
                ret, length = ret + step.row.reward, length + 1
                if step.frame is not None and length <= MAX_FRAMES:
                    result.frames.append(step.frame)
                if keep_rows and length <= MAX_ROWS:
                    kept.append(step)
            result.returns.append(ret)
            result.lengths.append(length - 1)  # the first row is the reset
            if kept:
                result.sequences.append(sequence(agent, kept))
    return result


def episode(agent: Agent, env: Env, seed: int, record: bool, cuts_faults: bool = False) -> Iterator[EpisodeStep]:
    """One episode, row by row, with pictures if `record`."""
    space = env.action_space
    latent, action = agent.initial(1), np.zeros((1, *space.shape), space.dtype)
    row = env.reset(seed)
    while True:
        yield EpisodeStep(row, action, env.frame() if record else None)
        if row.is_last:
            return
        obs = {key: np.asarray(value)[None] for key, value in row.obs.items()}
        action, latent = agent.act(obs, latent, action, np.array([row.is_first]))
        try:
            row = env.step(action[0])
        except UnsoundRow:
            if cuts_faults:
                return
            raise


def sequence(agent: Agent, steps: list[EpisodeStep]) -> Batch:
    """An episode's first rows as a batch of one, on the CPU. Its context is of no account: row 0 is a reset."""
    rows, initial = [step.row for step in steps], agent.initial(1)

    def column(values: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(value) for value in values])[None])

    return Batch(
        obs={key: column([row.obs[key] for row in rows]) for key in agent.obs_space},
        prev_action=column([step.action[0] for step in steps]),
        reward=column([np.float32(row.reward) for row in rows]),
        is_first=column([row.is_first for row in rows]),
        is_last=column([row.is_last for row in rows]),
        is_terminal=column([row.is_terminal for row in rows]),
        context_deter=torch.from_numpy(initial["deter"]),
        context_stoch=torch.from_numpy(initial["stoch"]).long(),
        row_ids=torch.zeros(1, 2, dtype=torch.int64),
    )


@torch.no_grad()
def model_losses(agent: Agent, sequences: list[Batch], seed: int) -> dict[str, float]:
    """The world model's losses, means over all rows. Of rows it never trained on, they show how well it generalises."""
    sums: dict[str, float] = {}
    with random_state.forked(seed, agent.device), agent.autocast():
        for batch in sequences:
            batch = move_data_to_device(batch, agent.device)
            losses = agent.world_model.loss(batch, agent.world_model.observe(batch)).losses
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss.sum())
    rows = sum(batch.reward.numel() for batch in sequences)
    return {name: total / rows for name, total in sums.items()}

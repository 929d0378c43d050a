"""An exported step beside the agent that it was made from, in the agent's own environment."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch

from dreamer.agent import Agent
from dreamer.envs.seeding import EVALUATION_STREAM, episode_seed
from dreamer.envs.spec import ActionRange, HasUnits
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.errors import RunStopped
from dreamer.export.formats import Arrays, Runner
from dreamer.export.step import PolicyStep

TOLERANCE = 1e-4
"""Of actions, in halves of their range, and of the state, whose entries are in [-1, 1] but for class indices."""
TIES = 200
"""In one of so many steps a draw may lie so near to the border of two classes that rounding decides. Where classes are
computed in another way, they differ in nearly all steps."""


class Comparison(NamedTuple):
    """What `compare` found. action, state: largest differences; ties: steps in which a class differed.

    original_seconds, exported_seconds: medians of a step.
    """

    steps: int
    action: float
    state: float
    ties: int
    original_seconds: float
    exported_seconds: float


class Original:
    """The agent as it acts in training, with the state that an exported step should have come to."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.reset()

    def reset(self) -> None:
        latent, space = self.agent.initial(1), self.agent.action_space
        self.deter, self.stoch = torch.from_numpy(latent["deter"]), torch.from_numpy(latent["stoch"])
        self.action, self.is_first = torch.from_numpy(np.zeros((1, *space.shape), space.dtype)), torch.tensor([True])

    @torch.inference_mode()
    def act(self, obs: Arrays, noise: Arrays) -> np.ndarray:
        rows = {key: torch.as_tensor(value)[None, None] for key, value in obs.items()}
        noise_z, noise_action = (
            torch.as_tensor(noise[key])[None] if noise else None for key in ("noise_z", "noise_action")
        )
        self.action, self.deter, self.stoch = self.agent.act_step(
            rows, self.deter, self.stoch, self.action, self.is_first, (noise_z, noise_action)
        )
        self.is_first = torch.tensor([False])
        return self.action[0].numpy()

    @property
    def state(self) -> np.ndarray:
        """As `PolicyStep` packs it."""
        parts = [torch.ones(1), self.deter[0], self.stoch[0].float(), self.action[0].float()]
        return torch.cat(parts).numpy()


def compare(agent: Agent, step: PolicyStep, runner: Runner, env: EpisodeJournal, steps: int, seed: int) -> Comparison:
    """Play `steps` policy steps, over as many episodes as it takes, in which both get the same rows, noise and state.

    The state is the original's: with two of their own, differences of rounding grow (to 1e-3 in an episode of
    walker_walk) until a draw falls to another class, and then nothing can be compared. The environment takes the
    actions of the original, and tells what they are in its own units. RunStopped where the two do not agree.
    """
    original, generator = Original(agent), torch.Generator().manual_seed(seed)
    state, row, episode = step.start().numpy(), None, 0
    action_error = state_error = 0.0
    ties, seconds = 0, ([], [])
    for index in range(steps):
        if row is None or row.is_last:
            row = env.reset(episode_seed(seed, EVALUATION_STREAM, episode))
            episode, state = episode + 1, step.start().numpy()
            original.reset()
        obs, noise = row.obs, draw_noise(agent, step, generator)
        ours = timed(lambda obs=obs, noise=noise: original.act(obs, noise), seconds[0])
        theirs, after = timed(lambda obs=obs, noise=noise, state=state: runner(obs, state, noise), seconds[1])
        state = original.state
        found = difference(step, env, ours, state, theirs, after)
        if found is None:
            ties += 1
        else:
            action_error, state_error = max(action_error, found[0]), max(state_error, found[1])
        check_agreement(found, ties, index, steps)
        row = env.step(ours)
    return Comparison(steps, action_error, state_error, ties, median(seconds[0]), median(seconds[1]))


def check_agreement(found: tuple[float, float] | None, ties: int, index: int, steps: int) -> None:
    """RunStopped where the differences of step `index`, or the ties up to it, are more than rounding makes."""
    if found is None and ties <= max(1, steps // TIES):
        return
    if found is not None and all(value <= TOLERANCE for value in found):  # false for nan as well
        return
    words = f"{ties} draws of other classes" if found is None else told(*found)
    raise RunStopped(
        f"In step {index} of {steps:,} the exported step does not do what the agent does ({words}), so it was not kept."
    )


def difference(
    step: PolicyStep,
    env: EpisodeJournal,
    ours: np.ndarray,
    our_state: np.ndarray,
    theirs: np.ndarray,
    state: np.ndarray,
) -> tuple[float, float] | None:
    """Largest differences of action and state; None where another class was drawn, which leaves nothing to compare."""
    expected = translated(env, ours)
    if theirs.shape != expected.shape or state.shape != our_state.shape:
        raise RunStopped(f"The exported step returns {theirs.shape} and {state.shape}, so it was not kept.")
    begun, deter, stoch, action = split(step, state)
    our_begun, our_deter, our_stoch, our_action = split(step, our_state)
    if not np.array_equal(stoch, our_stoch):
        return None
    if not isinstance(step.units, ActionRange):
        if not np.array_equal(theirs, expected):
            return None
        return 0.0, largest(begun - our_begun, deter - our_deter, action - our_action)
    half = np.clip(step.units.high - step.units.low, 0, np.inf) / 2
    off = (theirs - expected) / np.where(half > 0, half, 1.0)
    return largest(off), largest(begun - our_begun, deter - our_deter, action - our_action)


def split(step: PolicyStep, state: np.ndarray) -> list[np.ndarray]:
    return np.split(state, np.cumsum(list(step.parts.values()))[:-1])


def largest(*arrays: np.ndarray) -> float:
    """Of all entries, without their signs; nan where one is no number."""
    return float(np.max([np.abs(array).max(initial=0.0) for array in arrays]))


def translated(env: EpisodeJournal, action: np.ndarray) -> np.ndarray:
    """An action in the environment's units as it makes them itself, flat."""
    inner = env.env
    if isinstance(inner, HasUnits):
        theirs = inner.translate(action)
        return np.concatenate([np.ravel(part) for part in (theirs if isinstance(theirs, tuple) else (theirs,))])
    return action if env.action_space.is_discrete else np.clip(action, -1, 1)


def draw_noise(agent: Agent, step: PolicyStep, generator: torch.Generator) -> dict[str, np.ndarray]:
    """What one step draws, as the agent draws it; nothing where it takes what is likeliest."""
    values = agent.draw_noise(1, generator)
    return {name: value[0].numpy() for name, value in zip(step.noise_shapes, values, strict=False)}


def timed(function: Callable[[], Any], seconds: list[float]) -> Any:
    """What it returns; how long it took goes to the end of `seconds`."""
    began = time.perf_counter()
    result = function()
    seconds.append(time.perf_counter() - began)
    return result


def told(action: float, state: float) -> str:
    return f"actions differ by {action:.1e} of half their range, the state by {state:.1e}"

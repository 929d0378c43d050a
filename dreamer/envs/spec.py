"""What an environment promises. Anything with these members can be trained on."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dreamer.types import Space, TimeStep


@runtime_checkable
class Env(Protocol):
    """An episodic environment.

    obs_space: key -> Space of every observation; action_space: what `step` takes.
    env_steps_per_action: simulator control steps per `step` (the action repeat), for counting.
    """

    obs_space: dict[str, Space]
    action_space: Space
    env_steps_per_action: int

    def reset(self, seed: int) -> TimeStep:
        """Start an episode that `seed` alone determines; the returned row has is_first, reward 0."""
        ...

    def step(self, action: np.ndarray) -> TimeStep:
        """Apply one action (float32 [A], clipped to [-1, 1], or int32 [n]). After is_last only `reset` is allowed."""
        ...

    def frame(self) -> np.ndarray | None:
        """What a person would look at now, uint8 [h w 3]; None where there is no picture."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Replayable(Protocol):
    """What an environment offers in addition if its episodes can be replayed fast and checked closely."""

    def advance(self, action: np.ndarray) -> TimeStep:
        """Like `step`, but the observation is left empty: no picture is drawn."""
        ...

    def simulator_state(self) -> np.ndarray:
        """Numbers that are equal, bit for bit, only where the simulation stands at the same point."""
        ...


class ActionRange(NamedTuple):
    """What continuous actions are to the environment itself, entry by entry, float64 [A].

    One of ours, clipped to [-1, 1], is between `low` and `high` there, then cut off at `least` and `most` (these differ
    where the environment has one bound only), and rounded where `is_whole`, bool [A]. names: of the entries, or none.
    """

    low: np.ndarray
    high: np.ndarray
    least: np.ndarray
    most: np.ndarray
    is_whole: np.ndarray
    names: tuple[str, ...] = ()


class ActionChoices(NamedTuple):
    """What discrete actions are to the environment itself: choice 0 of entry i is its `first[i]`, int64 [n].

    names: of the choices, where there is one entry, or none.
    """

    first: np.ndarray
    names: tuple[str, ...] = ()


@runtime_checkable
class HasUnits(Protocol):
    """What an environment offers in addition if its actions are other numbers to it than [-1, 1] and 0, 1, ..."""

    action_units: ActionRange | ActionChoices

    def translate(self, action: np.ndarray) -> Any:
        """The action that the environment gets for one of ours: an array, a number or, of several spaces, a tuple."""
        ...

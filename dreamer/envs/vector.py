"""The environments of a run as one: what whoever steps them sees, and the plain way, one after another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import Space, TimeStep

Move = int | np.ndarray
"""What an environment shall do: begin the episode of this seed, or take this action."""


class Death(NamedTuple):
    """In place of a row: the process of the environment ended. Another one took its place, where `reset` comes next."""

    reason: str


@runtime_checkable
class Vector(Protocol):
    """The environments of a run, all of one task, numbered from 0, each with the journal of its unfinished episode.

    Spaces and env_steps_per_action are those of each one (`dreamer/envs/spec.py: Env`).
    """

    num_envs: int
    obs_space: dict[str, Space]
    action_space: Space
    env_steps_per_action: int

    def step(self, moves: Mapping[int, Move]) -> dict[int, TimeStep | Death]:
        """A row of each environment that has a move, in the order of the moves."""
        ...

    def state_dict(self) -> list[dict[str, Any] | None]:
        """The journal of each; None where a process has died and nobody knows."""
        ...

    def load_state_dict(self, states: Sequence[dict[str, Any] | None]) -> list[bool]:
        """Bring the unfinished episodes back. False for each that could not be: there `reset` comes next."""
        ...

    def close(self) -> None:
        """Free everything; nothing else may be called afterwards, but `close` again."""
        ...


class SerialVector:
    """Environments in this process, which step one after another. They raise what they raise."""

    def __init__(self, envs: Sequence[EpisodeJournal]) -> None:
        self.envs = list(envs)
        self.num_envs = len(self.envs)
        self.obs_space, self.action_space = envs[0].obs_space, envs[0].action_space
        self.env_steps_per_action = envs[0].env_steps_per_action
        self._is_closed = False

    def step(self, moves: Mapping[int, Move]) -> dict[int, TimeStep | Death]:
        return {index: self._step(self.envs[index], move) for index, move in moves.items()}

    def state_dict(self) -> list[dict[str, Any] | None]:
        return [env.state_dict() for env in self.envs]

    def load_state_dict(self, states: Sequence[dict[str, Any] | None]) -> list[bool]:
        pairs = zip(self.envs, states, strict=True)
        return [state is not None and env.load_state_dict(state).is_exact for env, state in pairs]

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            for env in self.envs:
                env.close()

    @staticmethod
    def _step(env: EpisodeJournal, move: Move) -> TimeStep:
        return env.step(move) if isinstance(move, np.ndarray) else env.reset(move)

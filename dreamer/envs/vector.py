"""The environments of a run as one: what whoever steps them sees, and the plain way, one after another."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import Space, TimeStep

PACKAGE = Path(__file__).resolve().parents[1]

Move = int | np.ndarray
"""What an environment shall do: begin the episode of this seed, or take this action."""


class Death(NamedTuple):
    """In place of a row: the process of the environment ended. Another one took its place, where `reset` comes next."""

    reason: str


class Failure(NamedTuple):
    """In place of a row: the environment cannot go on, and nothing takes its place. `report` says what it raised."""

    report: str


Answer = TimeStep | Death | UnsoundRow | Failure
"""A row; or why there is none. After UnsoundRow the environment lives, and `reset` comes next there."""


@runtime_checkable
class Vector(Protocol):
    """The environments of a run, all of one task, numbered from 0, each with the journal of its unfinished episode.

    Spaces and env_steps_per_action are those of each one (`dreamer/envs/spec.py: Env`).
    answers_in_time: whether `step` returns after env.step_timeout at the latest, whatever an environment does.
    """

    num_envs: int
    obs_space: dict[str, Space]
    action_space: Space
    env_steps_per_action: int
    answers_in_time: bool

    def step(self, moves: Mapping[int, Move]) -> dict[int, Answer]:
        """An answer of each environment that has a move, in the order of the moves."""
        ...

    def undo(self, indices: Sequence[int]) -> None:
        """Have the journals of these say what they said before their last move, as their rows were not used.

        The same for all that moved in a call of `step` that has not returned. The simulations themselves are beyond
        that point, so nothing but `state_dict` and `close` may follow.
        """
        ...

    def stop(self) -> None:
        """The run is being stopped: wait no longer than that allows. A signal handler may call this."""
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
    """Environments in this process, which step one after another."""

    answers_in_time = False

    def __init__(self, envs: Sequence[EpisodeJournal]) -> None:
        self.envs = list(envs)
        self.num_envs = len(self.envs)
        self.obs_space, self.action_space = envs[0].obs_space, envs[0].action_space
        self.env_steps_per_action = envs[0].env_steps_per_action
        self._moved: list[int] = []  # in the call of `step` that is under way
        self._is_closed = False

    def step(self, moves: Mapping[int, Move]) -> dict[int, Answer]:
        answers: dict[int, Answer] = {}
        for index, move in moves.items():
            answers[index] = answer_of(self.envs[index], move)
            self._moved.append(index)
        self._moved.clear()
        return answers

    def stop(self) -> None:
        """Nothing can hurry an environment of this process; training/stopping.py goes on without it."""

    def undo(self, indices: Sequence[int]) -> None:
        for index in {*indices, *self._moved}:
            self.envs[index].undo()

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


def answer_of(env: EpisodeJournal, move: Move) -> TimeStep | UnsoundRow | Failure:
    """The row that a move brings, or what keeps it from being one, the exit of an environment included."""
    try:
        return env.step(move) if isinstance(move, np.ndarray) else env.reset(move)
    except UnsoundRow as unsound:
        return unsound
    except (Exception, SystemExit) as error:
        return Failure(shortened(error))


def shortened(error: BaseException) -> str:
    """The traceback of an error, without the calls of this package that led to the environment's own code."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [i for i, frame in enumerate(frames) if PACKAGE in Path(frame.filename).parents]
    shown = frames[ours[-1] + 1 :] if ours else frames
    shown = shown or frames[-1:]
    lines = ["Traceback (calls before the environment's own are left out):\n", *traceback.format_list(shown)]
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()

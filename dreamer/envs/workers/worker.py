"""One environment in a process of its own, or in an actor: what runs in there. It imports no torch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from dreamer.envs.drawing import backend
from dreamer.envs.notices import NOTICES
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.workers.shared_images import SharedImages
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.errors import SIGNALS
from dreamer.types import Space, TimeStep


class Built(NamedTuple):
    """The first answer of a worker: its environment is built, and had `notices` to say."""

    obs_space: dict[str, Space]
    action_space: Space
    env_steps_per_action: int
    notices: list[str]


class LastWords(NamedTuple):
    """The last answer of a worker: what its environment raised, in words, since not every exception can be sent.

    is_user_error: whether it is a ValueError, by which the user is told what to mend
    """

    is_user_error: bool
    name: str
    message: str
    traceback: str

    @classmethod
    def of(cls, error: BaseException) -> LastWords:
        lines = "".join(traceback.format_exception(error))
        return cls(isinstance(error, ValueError), type(error).__name__, str(error), lines)


class Answers:
    """The requests that a worker knows, by the names of these methods.

    After `share`, images of rows go through shared memory; without it they are part of the answer.
    """

    def __init__(self, env: EpisodeJournal) -> None:
        self.env = env
        self.images: SharedImages | None = None

    def share(self, name: str) -> None:
        self.images = SharedImages(self.env.obs_space, name)

    def reset(self, seed: int) -> TimeStep | UnsoundRow:
        return self._move(lambda: self.env.reset(seed))

    def step(self, action: np.ndarray) -> TimeStep | UnsoundRow:
        return self._move(lambda: self.env.step(action))

    def undo(self) -> None:
        self.env.undo()

    def state_dict(self) -> dict[str, Any]:
        return self.env.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        return self.env.load_state_dict(state).is_exact

    def _move(self, move: Callable[[], TimeStep]) -> TimeStep | UnsoundRow:
        try:
            row = move()
        except UnsoundRow as unsound:
            return unsound
        return row if self.images is None else row._replace(obs=self.images.write(row.obs))


def serve(connection: Connection, make: Callable[[], EpisodeJournal], probe: backend.Probe | None) -> None:
    """Build the environment and answer (name, *arguments) until the parent closes the connection, or is gone."""
    ignore_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    backend.adopt(probe)
    try:
        env, built = build(make)
        connection.send(built)
        answers = Answers(env)
        while (request := _next(connection)) is not None:
            name, *arguments = request
            connection.send(getattr(answers, name)(*arguments))
        env.close()
    except (Exception, SystemExit) as error:
        with suppress(OSError):
            connection.send(LastWords.of(error))


def build(make: Callable[[], EpisodeJournal]) -> tuple[EpisodeJournal, Built]:
    """The environment, and what its parent shall know of it, who says once what all environments have to say."""
    NOTICES.is_silent = True
    env = make()
    return env, Built(env.obs_space, env.action_space, env.env_steps_per_action, NOTICES.lines)


def ignore_signals() -> None:
    """Leave SIGNALS to the run; they were held back until here."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _end_with_parent() -> None:
    """End this process once the run is gone, also where the environment never comes back to look for a request."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _next(connection: Connection) -> tuple[Any, ...] | None:
    try:
        return connection.recv()
    except (EOFError, OSError):
        return None

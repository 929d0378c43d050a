"""One environment in a process of its own: what runs in there. It imports no torch."""

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
from dreamer.types import Space, TimeStep

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGBREAK") if hasattr(signal, name)
)
"""Those by which a run is stopped. A terminal or a scheduler sends them to every process; the parent alone answers."""


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


class Answers:
    """The requests that a worker knows, by the names of these methods. Images of rows go through shared memory."""

    def __init__(self, env: EpisodeJournal) -> None:
        self.env = env
        self.images: SharedImages

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
        return row._replace(obs=self.images.write(row.obs))


def serve(connection: Connection, make: Callable[[], EpisodeJournal], probe: backend.Probe | None) -> None:
    """Build the environment and answer (name, *arguments) until the parent closes the connection, or is gone."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # they were held back until here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    backend.adopt(probe)
    NOTICES.is_silent = True  # they come with `Built`: the parent says once what all of its environments have to say
    try:
        env = make()
        connection.send(Built(env.obs_space, env.action_space, env.env_steps_per_action, NOTICES.lines))
        answers = Answers(env)
        while (request := _next(connection)) is not None:
            name, *arguments = request
            connection.send(getattr(answers, name)(*arguments))
        env.close()
    except (Exception, SystemExit) as error:
        with suppress(OSError):
            connection.send(
                LastWords(isinstance(error, ValueError), type(error).__name__, str(error), traceback.format_exc())
            )


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

"""Environments elsewhere, which step at the same time, as one `Vector`. A worker that dies is replaced."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.resource_tracker import ensure_running
from multiprocessing.util import Finalize
from typing import Any, NoReturn

import numpy as np

from dreamer.envs.notices import NOTICES
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.vector import Answer, Death, Failure, Move
from dreamer.envs.workers.worker import SIGNALS, Built, LastWords
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import TimeStep

MOST_DEATHS = 3
"""In a row: a run goes on after so many deaths of one environment, and ends with the next."""
CALM_STEPS = 1000
"""Steps after which a death is not in a row with those before it."""
SECONDS_TO_LOOK = 1.0  # between two looks whether one who is silent lives, or the run is being stopped
SECONDS_TO_STOP = 5.0  # for a step that is under way when the run is told to stop
SECONDS_TO_END = 5.0  # for closing an environment; what takes longer is killed
SECONDS_TO_BUILD = 600.0  # an environment, or its unfinished episode anew, where env.step_timeout is not longer

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Make = Callable[[], EpisodeJournal]


class WorkerDied(Exception):
    """What answered for an environment ended without being told to.

    how: in words; failure: what it could still say; place: where that was, in words; of an own process there is no
    more to say, and `reason` leaves it out.
    """

    def __init__(self, how: str, failure: LastWords | None, place: str, is_far: bool) -> None:
        super().__init__(how, failure, place, is_far)
        self.how, self.failure, self.place, self.is_far = how, failure, place, is_far

    @property
    def reason(self) -> str:
        """In a line."""
        how = f"{self.failure.name}: {self.failure.message}".splitlines()[0] if self.failure else self.how
        return f"{how}, {self.place}" if self.is_far else how

    @property
    def report(self) -> str:
        """All there is to say."""
        return f"{self.place}\n{self.failure.traceback.rstrip()}" if self.failure else f"{self.reason}."


class Worker(ABC):
    """What answers for one environment, from here. One request at a time: `ask`, then the answer.

    `start` is called by whoever made it, and again after a death.
    """

    is_far = False  # on another machine, perhaps

    def __init__(self, make: Make, timeout: float, is_stopping: threading.Event) -> None:
        self.num_deaths, self.num_calm = 0, 0
        self._make, self._timeout, self._is_stopping = make, timeout, is_stopping
        self._death: WorkerDied | None = None
        self._asked = 0.0

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the environment lives, in words."""

    @abstractmethod
    def free(self) -> None:
        """Give back what the two shared; comes last."""

    @abstractmethod
    def hang_up(self) -> None:
        """Let it close its environment and end."""

    @abstractmethod
    def end(self) -> None:
        """Wait for its end, which follows `hang_up`, but not for long."""

    @abstractmethod
    def _start(self) -> None:
        """Have another one, which begins to build its environment: its first answer is `Built`."""

    @abstractmethod
    def _send(self, name: str, *arguments: Any) -> None:
        """Hand on a request to a method of `Answers`; of one that is gone, silently."""

    @abstractmethod
    def _has_answered(self, seconds: float) -> bool:
        """Whether there is an answer, or none will ever come; waits up to `seconds` for that."""

    @abstractmethod
    def _receive(self) -> Any:
        """The answer that is there; EOFError or OSError from one that is gone."""

    @abstractmethod
    def _kill(self) -> None:
        """End it now."""

    @abstractmethod
    def _how_it_ended(self) -> str:
        """In words; where it is not certain to be gone, it is ended now."""

    def start(self) -> None:
        """Another one, which begins to build its environment."""
        self._death, self._asked = None, time.monotonic()
        self._start()

    def begin(self) -> Built:
        """Wait until the environment is built."""
        built: Built = self._answer(max(self._timeout, SECONDS_TO_BUILD))
        for line in built.notices:
            NOTICES.say_once(line)
        return built

    def ask(self, name: str, *arguments: Any) -> None:
        self._asked = time.monotonic()
        self._send(name, *arguments)

    def row(self) -> TimeStep | UnsoundRow:
        """The answer to reset or step."""
        row: TimeStep | UnsoundRow = self._answer(self._timeout, SECONDS_TO_STOP)
        if isinstance(row, UnsoundRow):
            return row
        self.num_calm += not row.is_first
        return row._replace(obs=self._own(row.obs))

    @abstractmethod
    def _own(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The whole of an observation, in the order of its spaces, in arrays that stay as they are."""

    def answer_or(self, default: Any) -> Any:
        """The answer, or `default` of one that has died; the next `row` hears of it again."""
        try:
            return self._answer(max(self._timeout, SECONDS_TO_BUILD))
        except WorkerDied:
            return default

    def _answer(self, seconds: float = SECONDS_TO_BUILD, when_stopping: float = math.inf) -> Any:
        """Wait until `seconds` after the request, or `when_stopping` from when the run is being stopped; who is late
        is killed."""
        if self._death is not None:
            raise self._death
        deadline = self._asked + seconds
        try:
            while not self._has_answered(min(SECONDS_TO_LOOK, max(0.0, deadline - time.monotonic()))):
                if self._is_stopping.is_set():
                    deadline, when_stopping = min(deadline, time.monotonic() + when_stopping), math.inf
                if time.monotonic() >= deadline:
                    waited = time.monotonic() - self._asked
                    self._kill()
                    self._die(None, f"no answer for {waited:.3g} seconds, so it was killed")
            answer = self._receive()
        except (EOFError, OSError):
            self._die(None)
        if isinstance(answer, LastWords):
            self._die(answer)
        return answer

    def _die(self, failure: LastWords | None, how: str = "") -> NoReturn:
        ended = self._how_it_ended()
        self._death = WorkerDied(how or ended, failure, self.place, self.is_far)
        raise self._death from None


class WorkerVector:
    """A worker for each of `makers`, which build the environments there. A `Vector`, like `SerialVector`.

    `hire` gives the worker of a maker; `at_end` follows the end of all. They start in parallel. Makers must be of a
    kind that pickle takes. Raises what a maker raised: ValueError with its message, else RuntimeError with its
    traceback. An environment that does not answer in time is killed, which is a death like others.
    """

    answers_in_time = True

    def __init__(
        self,
        makers: Sequence[Make],
        hire: Callable[[Make, threading.Event], Worker],
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._workers: list[Worker] = []
        self._is_stopping = threading.Event()
        # Where nobody calls `close`, the end of this object or of the process does.
        self._finalizer = Finalize(self, _end, args=(self._workers, at_end), exitpriority=1)
        self.num_envs = len(makers)
        try:
            for make in makers:
                worker = hire(make, self._is_stopping)
                worker.start()
                self._workers.append(worker)
            built = [self._first(index, worker) for index, worker in enumerate(self._workers)]
        except BaseException:
            self.close()
            raise
        self.obs_space, self.action_space = built[0].obs_space, built[0].action_space
        self.env_steps_per_action = built[0].env_steps_per_action

    def stop(self) -> None:
        """The run is being stopped: do not wait long for environments from here on. A signal handler may call this."""
        self._is_stopping.set()

    def step(self, moves: Mapping[int, Move]) -> dict[int, Answer]:
        for index, move in moves.items():
            self._workers[index].ask("step" if isinstance(move, np.ndarray) else "reset", move)
        return {index: self._row(index) for index in moves}

    def undo(self, indices: Sequence[int]) -> None:
        for index in indices:
            self._workers[index].ask("undo")
        for index in indices:
            self._workers[index].answer_or(None)

    def state_dict(self) -> list[dict[str, Any] | None]:
        for worker in self._workers:
            worker.ask("state_dict")
        return [worker.answer_or(None) for worker in self._workers]

    def load_state_dict(self, states: Sequence[dict[str, Any] | None]) -> list[bool]:
        pairs = list(zip(self._workers, states, strict=True))
        for worker, state in pairs:
            if state is not None:
                worker.ask("load_state_dict", state)
        return [state is not None and worker.answer_or(False) for worker, state in pairs]

    def close(self) -> None:
        self._finalizer()

    def _first(self, index: int, worker: Worker) -> Built:
        try:
            return worker.begin()
        except WorkerDied as death:
            if death.failure is not None and death.failure.is_user_error:
                raise ValueError(death.failure.message) from None
            raise RuntimeError(f"Environment {index} could not be built: {death.report}") from None

    def _row(self, index: int) -> Answer:
        try:
            return self._workers[index].row()
        except WorkerDied as death:
            return self._replace(index, death)

    def _replace(self, index: int, death: WorkerDied) -> Death | Failure:
        """Another worker for environment `index`; Failure, with what the last one raised, if that keeps dying."""
        reason = death.reason
        worker = self._workers[index]
        while True:
            worker.num_deaths = 1 if worker.num_calm >= CALM_STEPS else worker.num_deaths + 1
            worker.num_calm = 0
            if worker.num_deaths > MOST_DEATHS:
                return Failure(
                    f"It died {worker.num_deaths} times, with fewer than {CALM_STEPS} steps between: {death.report}"
                )
            try:
                worker.start()
                worker.begin()
                return Death(reason)
            except WorkerDied as another:
                death = another


@contextmanager
def prepared_for_children() -> Iterator[None]:
    """What a process takes over from the one that starts it, before any of its code runs: one thread in libraries that
    read their number when they are loaded, and signals held back until it ignores them."""
    mask = None
    if hasattr(signal, "pthread_sigmask"):
        ensure_running()  # else the start of the first process would start it, which unblocks the signals
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        with environment(dict.fromkeys(THREADS, "1")):
            yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """These environment variables, and afterwards what was there before."""
    saved = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _end(workers: list[Worker], at_end: Callable[[], None]) -> None:
    for worker in workers:
        worker.hang_up()
    for worker in workers:
        worker.end()
        worker.free()
    at_end()

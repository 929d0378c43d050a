"""Environments in processes of their own, which step at the same time. A process that dies is replaced."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.resource_tracker import ensure_running
from multiprocessing.util import Finalize
from typing import Any, NoReturn

import numpy as np

from dreamer.envs.drawing.backend import known_probe
from dreamer.envs.notices import NOTICES
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.vector import Answer, Death, Failure, Move
from dreamer.envs.workers.shared_images import SharedImages
from dreamer.envs.workers.worker import SIGNALS, Built, LastWords, serve
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import TimeStep

MOST_DEATHS = 3
"""In a row: a run goes on after so many deaths of one environment, and ends with the next."""
CALM_STEPS = 1000
"""Steps after which a death is not in a row with those before it."""
SECONDS_TO_LOOK = 1.0  # between two looks whether a silent process lives; most deaths close the connection at once
SECONDS_TO_END = 5.0  # for closing an environment; what takes longer is killed
SECONDS_TO_STOP = 5.0  # for a step that is under way when the run is told to stop
SECONDS_TO_BUILD = 600.0  # an environment, or its unfinished episode anew, where env.step_timeout is not longer

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class ProcessVector:
    """A process for each of `makers`, which build the environments there. A `Vector`, like `SerialVector`.

    They start in parallel, in fresh interpreters: threads and OpenGL bear no fork, and Windows has none. So makers must
    be of a kind that pickle takes. Raises what a maker raised: ValueError with its message, else RuntimeError with its
    traceback. An environment that does not answer within `timeout` seconds is killed, which is a death like others.
    """

    answers_in_time = True

    def __init__(self, makers: Sequence[Callable[[], EpisodeJournal]], timeout: float = math.inf) -> None:
        self._workers: list[Worker] = []
        self._is_stopping = threading.Event()
        # Where nobody calls `close`, the end of this object or of the process does.
        self._finalizer = Finalize(self, _end, args=(self._workers,), exitpriority=1)
        self.num_envs = len(makers)
        try:
            for make in makers:
                self._workers.append(Worker(make, timeout, self._is_stopping))
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
        """Another process for environment `index`; Failure, with what the last one raised, if that keeps dying."""
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


class WorkerDied(Exception):
    """A process ended without being told to; `failure` is what it could still say."""

    def __init__(self, exit_code: int | None, failure: LastWords | None, waited: float | None = None) -> None:
        super().__init__(exit_code, failure, waited)
        self.exit_code, self.failure, self.waited = exit_code, failure, waited

    @property
    def reason(self) -> str:
        """In a line."""
        if self.failure:
            return f"{self.failure.name}: {self.failure.message}".splitlines()[0]
        if self.waited is not None:
            return f"no answer for {self.waited:.3g} seconds, so it was killed"
        if self.exit_code is not None and self.exit_code < 0:
            return f"killed by signal {-self.exit_code}, {signal.strsignal(-self.exit_code)}"
        return f"exit status {self.exit_code}"

    @property
    def report(self) -> str:
        """All there is to say."""
        return f"in its process\n{self.failure.traceback.rstrip()}" if self.failure else f"{self.reason}."


class Worker:
    """The process of one environment, from outside. One request at a time: `ask`, then the answer."""

    def __init__(self, make: Callable[[], EpisodeJournal], timeout: float, is_stopping: threading.Event) -> None:
        self.num_deaths, self.num_calm = 0, 0
        self._make, self._timeout, self._is_stopping = make, timeout, is_stopping
        self._images: SharedImages | None = None
        self._death: WorkerDied | None = None
        self.start()

    def start(self) -> None:
        """A fresh process, which begins to build its environment."""
        self._death = None
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self._make, known_probe()), name="environment")
        with _prepared_for_a_child():
            self._process.start()
        other.close()  # the child's end is the only one left, so its death is heard here

    def begin(self) -> Built:
        """Wait until the environment is built."""
        built: Built = self._answer(max(self._timeout, SECONDS_TO_BUILD))
        for line in built.notices:
            NOTICES.say_once(line)
        if self._images is None:
            self._images = SharedImages(built.obs_space)
        self._keys = list(built.obs_space)
        self.ask("share", self._images.name)
        self._answer()
        return built

    def ask(self, name: str, *arguments: Any) -> None:
        with suppress(OSError):  # of a process that has died: who waits for the answer hears of it
            self._connection.send((name, *arguments))

    def row(self) -> TimeStep | UnsoundRow:
        """The answer to reset or step."""
        row: TimeStep | UnsoundRow = self._answer(self._timeout, SECONDS_TO_STOP)
        if isinstance(row, UnsoundRow):
            return row
        assert self._images is not None
        self.num_calm += not row.is_first
        obs = {**row.obs, **self._images.read()}
        return row._replace(obs={key: obs[key] for key in self._keys})

    def answer_or(self, default: Any) -> Any:
        """The answer, or `default` of a process that has died; the next `row` hears of it again."""
        try:
            return self._answer(max(self._timeout, SECONDS_TO_BUILD))
        except WorkerDied:
            return default

    def hang_up(self) -> None:
        """Let the process close its environment and end."""
        self._connection.close()

    def end(self) -> None:
        """Wait for the end of the process, which follows `hang_up`."""
        self._process.join(SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def free(self) -> None:
        if self._images is not None:
            self._images.close()

    def _answer(self, seconds: float = SECONDS_TO_BUILD, when_stopping: float = math.inf) -> Any:
        """Wait `seconds` for it, or `when_stopping` from when the run is being stopped; a process that is late dies."""
        if self._death is not None:
            raise self._death
        began = time.monotonic()
        deadline = began + seconds
        try:
            while not self._connection.poll(min(SECONDS_TO_LOOK, max(0.0, deadline - time.monotonic()))):
                if not self._process.is_alive() and not self._connection.poll():
                    raise EOFError  # what the environment has started itself may still hold the other end
                if self._is_stopping.is_set():
                    deadline, when_stopping = min(deadline, time.monotonic() + when_stopping), math.inf
                if time.monotonic() >= deadline:
                    self._process.kill()
                    self._die(None, time.monotonic() - began)
            answer = self._connection.recv()
        except (EOFError, OSError):
            self._die(None)
        if isinstance(answer, LastWords):
            self._die(answer)
        return answer

    def _die(self, failure: LastWords | None, waited: float | None = None) -> NoReturn:
        self.hang_up()
        self.end()
        self._death = WorkerDied(self._process.exitcode, failure, waited)
        raise self._death from None


@contextmanager
def _prepared_for_a_child() -> Iterator[None]:
    """What a process takes over from the one that starts it, before any of its code runs: one thread in libraries that
    read their number when they are loaded, and signals held back until it ignores them."""
    saved = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    mask = None
    if hasattr(signal, "pthread_sigmask"):
        ensure_running()  # else the start of the first process would start it, which unblocks the signals
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _end(workers: list[Worker]) -> None:
    for worker in workers:
        worker.hang_up()
    for worker in workers:
        worker.end()
        worker.free()

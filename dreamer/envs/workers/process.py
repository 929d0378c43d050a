"""Environments in processes of their own, which step at the same time. A process that dies is replaced."""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from dreamer.envs.drawing.backend import known_probe
from dreamer.envs.workers.shared_images import SharedImages
from dreamer.envs.workers.vector import SECONDS_TO_END, Make, Worker, WorkerVector, prepared_for_children
from dreamer.envs.workers.worker import Built, serve


class ProcessVector(WorkerVector):
    """A process for each of `makers`.

    They start in fresh interpreters: threads and OpenGL bear no fork, and Windows has none. An environment that does
    not answer within `timeout` seconds is killed.
    """

    def __init__(self, makers: Sequence[Make], timeout: float = math.inf) -> None:
        super().__init__(makers, lambda make, is_stopping: Process(make, timeout, is_stopping))


class Process(Worker):
    """The process of one environment, from outside."""

    def __init__(self, make: Make, timeout: float, is_stopping: threading.Event) -> None:
        super().__init__(make, timeout, is_stopping)
        self._images: SharedImages | None = None

    @property
    def place(self) -> str:
        return "in its process"

    def begin(self) -> Built:
        built = super().begin()
        if self._images is None:
            self._images = SharedImages(built.obs_space)
        self._keys = list(built.obs_space)
        self.ask("share", self._images.name)
        self._answer()
        return built

    def hang_up(self) -> None:
        self._connection.close()

    def end(self) -> None:
        self._process.join(SECONDS_TO_END)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def free(self) -> None:
        if self._images is not None:
            self._images.close()

    def _start(self) -> None:
        """A fresh process."""
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self._make, known_probe()), name="environment")
        with prepared_for_children():
            self._process.start()
        other.close()  # the child's end is the only one left, so its death is heard here

    def _send(self, name: str, *arguments: Any) -> None:
        with suppress(OSError):  # of a process that has died: who waits for the answer hears of it
            self._connection.send((name, *arguments))

    def _has_answered(self, seconds: float) -> bool:
        """Most deaths close the connection at once; the others are seen when the time is over."""
        if self._connection.poll(seconds):
            return True
        if not self._process.is_alive() and not self._connection.poll():
            raise EOFError  # what the environment has started itself may still hold the other end
        return False

    def _receive(self) -> Any:
        return self._connection.recv()

    def _kill(self) -> None:
        self._process.kill()

    def _how_it_ended(self) -> str:
        self.hang_up()
        self.end()
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"killed by signal {-code}, {signal.strsignal(-code)}"
        return f"exit status {code}"

    def _own(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert self._images is not None
        whole = {**obs, **self._images.read()}
        return {key: whole[key] for key in self._keys}

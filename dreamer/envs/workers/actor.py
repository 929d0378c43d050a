"""One environment in an actor of Ray, from inside and from outside. Who imports this has Ray imported."""

from __future__ import annotations

import os
import pickle
import re
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import ray
from ray.exceptions import ActorUnavailableError, OutOfMemoryError, RayActorError, RayError

from dreamer.envs.drawing import backend
from dreamer.envs.workers.vector import SECONDS_TO_END, Make, Worker
from dreamer.envs.workers.worker import Answers, Built, LastWords, build, ignore_signals


class Placed(NamedTuple):
    """The first answer of an actor: what its environment promises, and where it lives."""

    built: Built
    ip: str
    node_id: str


class Environment:
    """One environment in an actor: what runs there."""

    def build(self, make: bytes, paths: list[str], directory: str, probe: backend.Probe | None) -> Placed | LastWords:
        """Build it from a pickled maker, whose modules may lie in the `directory` or the import `paths` of the run."""
        ignore_signals()
        sys.path += [path for path in paths if path not in sys.path and Path(path).exists()]
        if Path(directory).is_dir():
            os.chdir(directory)
        backend.adopt(probe)
        try:
            env, built = build(pickle.loads(make))
        except (Exception, SystemExit) as error:
            return LastWords.of(error)
        self._answers = Answers(env)
        return Placed(built, ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())

    def answer(self, name: str, *arguments: Any) -> Any:
        """The answer to a request that `Answers` knows; LastWords for what it raises."""
        try:
            return getattr(self._answers, name)(*arguments)
        except (Exception, SystemExit) as error:
            return LastWords.of(error)

    def close(self) -> None:
        self._answers.env.close()


class Actor(Worker):
    """The actor of one environment, from outside. `cpus`: cores that it asks its node for; `probe`: how it draws, None
    where that is still to be found out."""

    is_far = True

    def __init__(
        self, make: Make, timeout: float, is_stopping: threading.Event, probe: backend.Probe | None, cpus: float
    ) -> None:
        super().__init__(make, timeout, is_stopping)
        self._probe, self._cpus = probe, cpus
        self._where: Placed | None = None
        self._error: Exception | None = None

    @property
    def place(self) -> str:
        if self._where is None:
            return "before it had a place on the Ray cluster"
        return f"at {self._where.ip}, node {self._where.node_id[:8]}"

    def begin(self) -> Built:
        built = super().begin()
        self._keys = list(built.obs_space)
        return built

    def hang_up(self) -> None:
        if ray.is_initialized() and self._death is None and self._where is not None:
            self._answer_ref = self._actor.close.remote()

    def end(self) -> None:
        """Ray has taken everything with it where it has ended before."""
        if ray.is_initialized():
            if self._death is None and self._where is not None:
                ray.wait([self._answer_ref], timeout=SECONDS_TO_END)
            ray.kill(self._actor)

    def free(self) -> None:
        """Nothing is shared."""

    def _start(self) -> None:
        self._where = self._error = None
        options: dict[str, Any] = {"num_cpus": self._cpus, "scheduling_strategy": "SPREAD", "max_restarts": 0}
        self._actor: Any = ray.remote(Environment).options(**options).remote()
        paths = [path or os.getcwd() for path in sys.path]
        self._answer_ref = self._actor.build.remote(pickle.dumps(self._make), paths, os.getcwd(), self._probe)

    def _send(self, name: str, *arguments: Any) -> None:
        self._answer_ref = self._actor.answer.remote(name, *arguments)

    def _has_answered(self, seconds: float) -> bool:
        return bool(ray.wait([self._answer_ref], timeout=seconds)[0])

    def _receive(self) -> Any:
        try:
            answer = ray.get(self._answer_ref)
        except RayError as error:
            self._error = error
            raise EOFError from error
        if isinstance(answer, Placed):
            self._where = answer
            return answer.built
        return answer

    def _kill(self) -> None:
        ray.kill(self._actor)

    def _how_it_ended(self) -> str:
        """It is killed in any case: a node that cannot be reached may come back."""
        self._kill()
        return _cause(self._error) if self._error is not None else ""

    def _own(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Copies, since what Ray hands out lies in its memory, and cannot be written."""
        return {key: np.array(obs[key]) for key in self._keys}


def _cause(error: Exception) -> str:
    """Why an actor died, from the pages that Ray has to say."""
    text = str(error)
    if isinstance(error, OutOfMemoryError):
        return "Ray ended it, since its node was out of memory"
    if code := re.search(r"exit code (\d+)", text):
        return f"exit status {code[1]}"
    if isinstance(error, ActorUnavailableError) or "node" in text.split("The actor is dead")[-1][:80]:
        return "its node does not answer"
    if isinstance(error, RayActorError):
        detail = re.search(r"Worker exit detail: ([^.\n]+)", text)
        return "its process was killed or crashed" + (f" ({detail[1].strip()})" if detail else "")
    return first_line(error)


def first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")

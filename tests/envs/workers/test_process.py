"""Environments in processes: the same rows as in this one, and what becomes of a process that dies."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing import backend
from dreamer.envs.make import make_env, make_envs
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.suites.dummy import Counter
from dreamer.envs.vector import Death, Failure, Move, SerialVector, Vector
from dreamer.envs.workers import vector
from dreamer.envs.workers.process import ProcessVector
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import TimeStep

Make = Callable[[], EpisodeJournal]
ACTION = np.full(2, 0.5, np.float32)
KILLER = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL  # what Process.kill is taken for


class Falls(Counter):
    """Raises in step 3, where `again` says so or `marker` is not there yet."""

    def __init__(self, marker: Path, again: bool) -> None:
        super().__init__("both")
        self.marker, self.again = marker, again

    def step(self, action: np.ndarray) -> TimeStep:
        if self._index == 2 and (self.again or not self.marker.exists()):
            self.marker.touch()
            raise RuntimeError("it fell over\nand out of the window")
        return super().step(action)


class Meets(Counter):
    """A step ends once two of them have begun theirs."""

    def __init__(self, place: Path) -> None:
        super().__init__("both")
        self.place = place

    def step(self, action: np.ndarray) -> TimeStep:
        (self.place / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(self.place.iterdir())) < 2:
            assert time.monotonic() < deadline, "nobody came"
            time.sleep(0.01)
        return super().step(action)


class Witness(Counter):
    """Tells what its process is like: `counter` is (torch is loaded, threads of OpenMP)."""

    def reset(self, seed: int) -> TimeStep:
        row = super().reset(seed)
        row.obs["counter"][:] = "torch" in sys.modules, int(os.environ["OMP_NUM_THREADS"])
        return row


def falling(marker: Path, again: bool) -> EpisodeJournal:
    return EpisodeJournal(Falls(marker, again))


def meeting(place: Path) -> EpisodeJournal:
    return EpisodeJournal(Meets(place))


def counting() -> EpisodeJournal:
    return EpisodeJournal(Counter("both"))


def witness() -> EpisodeJournal:
    return EpisodeJournal(Witness())


def refused() -> EpisodeJournal:
    raise ValueError("env.name=nothing is not a task.")


def broken() -> EpisodeJournal:
    raise LookupError("a file is missing")


def vanishing() -> EpisodeJournal:
    os._exit(3)


@pytest.fixture
def start() -> Iterator[Callable[..., ProcessVector]]:
    """Starts processes for the given makers, and ends them after the test."""
    started: list[ProcessVector] = []

    def start(*makers: Make, timeout: float = math.inf) -> ProcessVector:
        started.append(ProcessVector(makers, timeout))
        return started[-1]

    yield start
    for envs in started:
        envs.close()


def kill(envs: ProcessVector, index: int) -> None:
    victim = envs._workers[index]._process
    victim.kill()
    victim.join()


def rows_of(envs: Vector, moves: Sequence[Sequence[Move]]) -> list[list[TimeStep]]:
    """The rows of all environments for each of the `moves` of all."""
    steps = [envs.step(dict(enumerate(step))) for step in moves]
    return [[row for row in step.values() if not isinstance(row, Death)] for step in steps]


def assert_same(got: list[list[TimeStep]], expected: list[list[TimeStep]]) -> None:
    for one, other in zip(got, expected, strict=True):
        for row, same in zip(one, other, strict=True):
            assert row[1:] == same[1:] and list(row.obs) == list(same.obs)
            for key, value in row.obs.items():
                assert value.dtype == same.obs[key].dtype
                np.testing.assert_array_equal(value, same.obs[key], err_msg=key)


@pytest.mark.parametrize(
    ("words", "size"),
    [
        (dict(suite="dummy", name="dummy_counter", obs="both"), 2),
        (dict(suite="dummy", name="dummy_counter_multi_discrete", obs="vision"), 2),
        (dict(suite="dmc", name="reacher_easy", obs="proprio"), 2),
    ],
    ids=lambda value: value.get("name", "") if isinstance(value, dict) else "",
)
def test_rows_and_journals_are_those_of_environments_in_this_process(words: dict[str, Any], size: int) -> None:
    vectors = [make_envs(EnvConfig(**words, size=16, num_envs=2, workers=workers)) for workers in ("serial", "process")]
    serial, beside = vectors
    assert isinstance(serial, SerialVector) and isinstance(beside, ProcessVector)
    assert (serial.obs_space, serial.action_space) == (beside.obs_space, beside.action_space)
    assert serial.env_steps_per_action == beside.env_steps_per_action
    actions = np.random.default_rng(0).uniform(0, 1, (16, 2, size)).astype(serial.action_space.dtype)
    moves = [[5, 2**60 + 1], *actions[:9]]
    assert_same(rows_of(beside, moves), rows_of(serial, moves))

    states = serial.state_dict(), beside.state_dict()
    for one, other in zip(*states, strict=True):
        assert one is not None and other is not None and one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key])
    assert serial.load_state_dict(states[1]) == beside.load_state_dict(states[0]) == [True, True]
    assert_same(rows_of(beside, actions[9:]), rows_of(serial, actions[9:]))
    for envs in vectors:
        envs.close()


def test_what_all_environments_have_to_say_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    """capfd also hears the processes themselves."""
    config = EnvConfig("custom", "Arm", "auto", size=32, class_="robots.Arm", num_envs=2, workers="process")
    make_envs(config).close()
    make_env(config)
    assert capfd.readouterr().out.count("cameras.left of 84 x 84 pixels is resized to 32 x 32") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("renderer")
def test_pictures_of_a_simulation_are_drawn_in_the_process_by_what_draws_here() -> None:
    config = EnvConfig(suite="dmc", name="walker_walk", size=32, num_envs=2, workers="process")
    envs, here = make_envs(config), make_env(config)
    (one, other), _ = rows_of(envs, [[3, 4], [np.ones(6, np.float32)] * 2])
    assert np.abs(one.obs["image"].astype(int) - here.reset(3).obs["image"]).mean() < 0.5
    assert (one.obs["image"] != other.obs["image"]).any()
    envs.close()


def test_answer_on_rendering_is_taken_over_from_the_process_that_starts_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "_probe", None)
    told = backend.Probe(None, ("egl (was not asked)",), "")
    backend.adopt(told)
    assert backend.probe_renderers() is backend.known_probe() is told


def test_environments_step_at_the_same_time(start: Callable[..., ProcessVector], tmp_path: Path) -> None:
    envs = start(*[partial(meeting, tmp_path)] * 2)
    rows_of(envs, [[1, 2]])
    assert [row.reward for row in rows_of(envs, [[ACTION, ACTION]])[0]] == [1, 1]


def test_one_environment_may_move_while_the_others_wait(start: Callable[..., ProcessVector]) -> None:
    envs = start(counting, counting)
    rows_of(envs, [[1, 2]])
    assert list(envs.step({1: ACTION})) == [1]
    first, second = rows_of(envs, [[ACTION, ACTION]])[0]
    assert (first.reward, second.reward) == (1, 2)
    first.obs["image"][:] = 7  # a row stays as it is, whatever comes after it
    assert rows_of(envs, [[ACTION, ACTION]])[0][0].obs["image"][0, 0, 0] == 2 and first.obs["image"][0, 0, 0] == 7


def test_killed_process_is_replaced_and_the_others_go_on(start: Callable[..., ProcessVector]) -> None:
    envs = start(counting, counting)
    rows_of(envs, [[1, 2], [ACTION, ACTION]])
    kill(envs, 0)
    rows = envs.step({0: ACTION, 1: ACTION})
    assert rows[0] == Death(f"killed by signal {int(KILLER)}, {signal.strsignal(KILLER)}") and isinstance(
        rows[1], TimeStep
    )
    assert rows_of(envs, [[3, ACTION]])[0][0].is_first
    kill(envs, 1)
    state = envs.state_dict()
    assert state[0] is not None and state[0]["seed"] == 3 and state[1] is None
    assert isinstance(envs.step({1: ACTION})[1], Death)
    assert envs.load_state_dict(state) == [True, False]
    assert SerialVector([counting(), counting()]).load_state_dict(state) == [True, False]


def test_error_of_an_environment_is_a_death_and_another_process_goes_on(
    start: Callable[..., ProcessVector], tmp_path: Path
) -> None:
    envs = start(partial(falling, tmp_path / "fell", False))
    rows_of(envs, [[1], [ACTION], [ACTION]])
    assert envs.step({0: ACTION}) == {0: Death("RuntimeError: it fell over")}
    assert [step[0].reward for step in rows_of(envs, [[1], [ACTION], [ACTION], [ACTION]])] == [0, 1, 2, 3]


def test_environment_that_always_dies_ends_the_run_with_its_own_traceback(
    start: Callable[..., ProcessVector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector, "MOST_DEATHS", 1)
    envs = start(partial(falling, tmp_path / "fell", True))
    rows_of(envs, [[1], [ACTION], [ACTION]])
    assert isinstance(envs.step({0: ACTION})[0], Death)
    rows_of(envs, [[1], [ACTION], [ACTION]])
    failure = envs.step({0: ACTION})[0]
    assert isinstance(failure, Failure)
    assert failure.report.startswith("It died 2 times, with fewer than 1000 steps between: in its process")
    assert "test_process.py" in failure.report and "RuntimeError: it fell over\nand out" in failure.report


class Hangs(Counter):
    """Never answers the third step, or with the fault `nan` gives a reward that is no number."""

    def __init__(self, fault: str = "") -> None:
        super().__init__("both")
        self.fault = fault

    def step(self, action: np.ndarray) -> TimeStep:
        if self._index == 2 and self.fault == "nan":
            return super().step(action)._replace(reward=float("nan"))
        while self._index == 2:
            time.sleep(0.05)
        return super().step(action)


def hanging(fault: str = "") -> EpisodeJournal:
    return EpisodeJournal(Hangs(fault))


def test_environment_that_does_not_answer_is_killed_and_another_goes_on(start: Callable[..., ProcessVector]) -> None:
    envs = start(hanging, counting, timeout=1.5)
    rows_of(envs, [[1, 1], [ACTION, ACTION], [ACTION, ACTION]])
    rows = envs.step({0: ACTION, 1: ACTION})
    assert isinstance(rows[0], Death) and isinstance(rows[1], TimeStep) and rows[1].reward == 3
    assert rows[0].reason.startswith("no answer for 1.5") and rows[0].reason.endswith("seconds, so it was killed")
    assert rows_of(envs, [[1]])[0][0].is_first


def assert_a_stop_does_not_wait(start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is being stopped goes on without an environment that never answers."""
    monkeypatch.setattr(vector, "SECONDS_TO_STOP", 0.5)
    envs = start(hanging, timeout=1000.0)
    rows_of(envs, [[1], [ACTION], [ACTION]])
    threading.Timer(0.2, envs.stop).start()
    assert isinstance(envs.step({0: ACTION})[0], Death)


def test_a_run_that_stops_does_not_wait_for_env_step_timeout(
    start: Callable[..., ProcessVector], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_a_stop_does_not_wait(start, monkeypatch)


def test_an_unsound_row_comes_through_the_pipe_and_can_be_taken_back(start: Callable[..., ProcessVector]) -> None:
    envs = start(partial(hanging, "nan"), counting)
    rows_of(envs, [[1, 2], [ACTION, ACTION], [ACTION, ACTION]])
    before = envs.state_dict()
    answers = envs.step({0: ACTION, 1: ACTION})
    assert isinstance(answers[0], UnsoundRow) and (answers[0].key, answers[0].row) == ("reward", 3)
    assert isinstance(answers[1], TimeStep)
    envs.undo([1])
    for was, is_now in zip(before, envs.state_dict(), strict=True):
        assert was is not None and is_now is not None
        assert (was["seed"], was["return"], len(was["actions"])) == (1 + before.index(was), 3.0, 2)
        np.testing.assert_array_equal(was["actions"], is_now["actions"])
        assert is_now["return"] == was["return"] and is_now["simulator"] is None


def test_processes_end_with_the_run_also_where_an_environment_hangs(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])}
    parent = subprocess.Popen([sys.executable, "-c", ORPHANED], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    time.sleep(0.5)  # in which it comes to its hanging step
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it lives on without its parent"
        time.sleep(0.05)


ORPHANED = """
import math, threading
import numpy as np
from dreamer.envs.workers.process import Process
from test_process import hanging

worker = Process(hanging, math.inf, threading.Event())
worker.start()
worker.begin()
worker.ask("reset", 1)
worker.row()
for _ in range(2):
    worker.ask("step", np.zeros(2, np.float32))
    worker.row()
worker.ask("step", np.zeros(2, np.float32))
print(worker._process.pid, flush=True)
worker.row()
"""


def test_deaths_far_apart_do_not_end_the_run(
    start: Callable[..., ProcessVector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vector, "MOST_DEATHS", 1)
    monkeypatch.setattr(vector, "CALM_STEPS", 2)
    envs = start(counting)
    for _ in range(2):
        rows_of(envs, [[1], [ACTION], [ACTION]])
        kill(envs, 0)
        assert isinstance(envs.step({0: ACTION})[0], Death)


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (refused, ValueError, "env.name=nothing is not a task."),
        (broken, RuntimeError, "Environment 1 could not be built: in its process\nTraceback"),
        (vanishing, RuntimeError, "Environment 1 could not be built: exit status 3."),
    ],
)
def test_what_goes_wrong_in_building_reaches_the_parent(make: Make, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        ProcessVector([counting, make])
    assert str(caught.value).startswith(message)


def test_process_loads_no_torch_computes_alone_and_leaves_signals_to_its_parent(
    start: Callable[..., ProcessVector],
) -> None:
    before = dict(os.environ)
    envs = start(witness)
    assert dict(os.environ) == before
    pid = envs._workers[0]._process.pid
    for number in (signal.SIGINT, signal.SIGTERM) if sys.platform != "win32" else ():
        os.kill(pid, number)
    (row,) = rows_of(envs, [[1]])[0]
    np.testing.assert_array_equal(row.obs["counter"], [0, 1])
    assert rows_of(envs, [[ACTION]])[0][0].reward == 1


STARTED = """
import math, os, signal, threading
from functools import partial
from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.envs.workers.process import Process

make = partial(make_env, EnvConfig(suite="dummy", name="dummy_counter", obs="proprio"))
worker = Process(make, math.inf, threading.Event())
worker.start()
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(worker._process.pid, number)
print(*worker.begin().obs_space)
worker.hang_up()
worker.end()
worker.free()
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be held back here")
def test_first_process_of_a_program_leaves_signals_to_its_parent_while_it_starts() -> None:
    """In a program of its own: multiprocessing starts a helper with the first process, and never again."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, env=environment)
    assert result.stdout.split() == ["counter", "action"], result.stderr


def test_close_ends_processes_frees_memory_and_may_be_called_again(start: Callable[..., ProcessVector]) -> None:
    envs = start(counting, counting)
    rows_of(envs, [[1, 2]])
    names = [worker._images.name for worker in envs._workers]
    processes = [worker._process for worker in envs._workers]
    envs.close()
    envs.close()
    assert [ended.exitcode for ended in processes] == [0, 0]
    for name in names:
        with pytest.raises(FileNotFoundError):
            SharedMemory(name)

"""Environments on a Ray cluster of two nodes in this machine: rows, journals, deaths, a node that is lost."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from test_process import (
    ACTION,
    Make,
    assert_a_stop_does_not_wait,
    assert_same,
    broken,
    counting,
    falling,
    hanging,
    refused,
    rows_of,
    vanishing,
)

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_envs
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.vector import Death, Failure, SerialVector
from dreamer.envs.workers import vector
from dreamer.envs.workers.cluster import QUIET, RayVector, check_ray
from dreamer.types import TimeStep

ray_only = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head and one more node, two cores each; its processes end with the module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**QUIET, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}.items():
            patch.setenv(name, value)
        from ray.cluster_utils import Cluster

        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        cluster.add_node(num_cpus=2)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def start(cluster: Any) -> Iterator[Callable[..., RayVector]]:
    """Starts actors for the given makers, and ends them after the test."""
    started: list[RayVector] = []

    def start(*makers: Make, timeout: float = 120.0) -> RayVector:
        started.append(RayVector(makers, timeout, cluster.address))
        return started[-1]

    yield start
    for envs in started:
        envs.close()


@ray_only
@pytest.mark.slow
def test_rows_journals_and_what_is_taken_back_are_those_of_environments_in_this_process(
    start: Callable[..., RayVector],
) -> None:
    beside = start(counting, partial(hanging, "nan"))
    serial = SerialVector([counting(), hanging("nan")])
    assert (serial.obs_space, serial.action_space) == (beside.obs_space, beside.action_space)
    moves: Any = [[5, 2**60 + 1], [ACTION, ACTION], [ACTION, ACTION]]
    assert_same(rows_of(beside, moves), rows_of(serial, moves))
    row = beside.step({0: ACTION})[0]
    assert isinstance(row, TimeStep) and list(beside.obs_space) == list(row.obs)
    row.obs["image"][:] = 7  # an array of its own
    serial.step({0: ACTION})

    states = serial.state_dict(), beside.state_dict()
    for one, other in zip(*states, strict=True):
        assert one is not None and other is not None and one.keys() == other.keys()
        for key, value in one.items():
            np.testing.assert_array_equal(value, other[key])
    answers = beside.step({0: ACTION, 1: ACTION})
    assert isinstance(answers[1], UnsoundRow) and (answers[1].key, answers[1].row) == ("reward", 3)
    beside.undo([0])
    undone = beside.state_dict()[0]
    assert undone is not None and (len(undone["actions"]), undone["simulator"]) == (3, None)
    assert serial.load_state_dict(states[1]) == beside.load_state_dict(states[0]) == [True, True]
    assert_same(rows_of(beside, [[ACTION]] * 3), rows_of(serial, [[ACTION]] * 3))


def living_actors() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [it for it in children if it.status() != psutil.STATUS_ZOMBIE and "Environment" in it.name()]


@ray_only
@pytest.mark.slow
def test_errors_silence_and_crashes_are_deaths_that_name_the_node(
    start: Callable[..., RayVector], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vector, "MOST_DEATHS", 1)
    envs = start(partial(falling, tmp_path / "fell", True), hanging, counting, timeout=10.0)
    for moves in ([1, 2, 3], [ACTION] * 3, [ACTION] * 3):
        rows_of(envs, [moves])
    began = time.monotonic()
    answers = envs.step(dict.fromkeys(range(3), ACTION))
    fallen, silent, row = (answers[index] for index in range(3))
    assert isinstance(fallen, Death) and fallen.reason.startswith("RuntimeError: it fell over, at 127.0.0.1, node ")
    assert isinstance(silent, Death) and silent.reason.startswith("no answer for ")
    assert "so it was killed, at 127.0.0.1, node " in silent.reason
    assert isinstance(row, TimeStep) and row.reward == 3 and time.monotonic() - began < 120

    rows_of(envs, [[4, 5, ACTION]])
    for _ in range(2):
        envs.step({0: ACTION})
    failure = envs.step({0: ACTION})[0]
    assert isinstance(failure, Failure) and "It died 2 times, with fewer than 1000 steps between: at " in failure.report
    assert "test_process.py" in failure.report and "it fell over\nand out of the window" in failure.report

    deadline = time.monotonic() + 60
    while len(alive := living_actors()) != 2:  # the one that has failed is still ending
        assert time.monotonic() < deadline
        time.sleep(0.1)
    alive[0].kill()
    answers = envs.step({1: ACTION, 2: ACTION})
    (reason,) = [answer.reason for answer in answers.values() if isinstance(answer, Death)]
    assert re.match(r"its process was killed or crashed( \(.+\))?, at 127.0.0.1, node ", reason), reason
    out, _ = capfd.readouterr()
    assert "(raylet)" not in out


@ray_only
@pytest.mark.slow
def test_environments_of_a_node_that_is_lost_go_on_elsewhere(cluster: Any, start: Callable[..., RayVector]) -> None:
    node = next(node for node in cluster.list_all_nodes() if not node.is_head())
    envs = start(counting, counting)
    rows_of(envs, [[1, 2], [ACTION, ACTION]])
    places = [worker.place for worker in envs._workers]
    lost = next(index for index, place in enumerate(places) if node.node_id[:8] in place)
    assert node.node_id[:8] not in places[1 - lost], "one on each node"
    cluster.remove_node(node, allow_graceful=False)
    deadline = time.monotonic() + 60
    while isinstance((answers := envs.step({0: 1, 1: 2}))[lost], TimeStep):  # until that is noticed it may still answer
        assert time.monotonic() < deadline
    assert answers[lost] == Death(f"its node does not answer, {places[lost]}")
    kept = answers[1 - lost]
    assert isinstance(kept, TimeStep) and kept.is_first
    kept = envs.step({1 - lost: ACTION})[1 - lost]
    assert isinstance(kept, TimeStep) and kept.reward == 1
    assert [row.is_first for row in rows_of(envs, [[3, 4]])[0]] == [True, True]
    assert node.node_id[:8] not in envs._workers[lost].place
    cluster.add_node(num_cpus=2)


@ray_only
@pytest.mark.slow
def test_a_run_that_stops_waits_no_longer_and_what_cannot_be_built_is_told(
    start: Callable[..., RayVector], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_a_stop_does_not_wait(start, monkeypatch)
    with pytest.raises(ValueError, match=r"^env.name=nothing is not a task.$"):
        start(refused)
    with pytest.raises(RuntimeError, match=r"(?s)^Environment 0 could not be built: before it had .*LookupError"):
        start(broken)
    with pytest.raises(RuntimeError, match=r"built: (exit status 3|its process was killed or crashed[^,]*), before"):
        start(vanishing)


@ray_only
def test_a_cluster_that_is_not_there_is_an_error_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EnvConfig("dummy", "dummy_counter", "both", size=16, workers="ray", ray_address="127.0.0.1:1")
    with pytest.raises(ValueError, match=r"^env.ray_address=127.0.0.1:1: there is no Ray cluster that this machine"):
        make_envs(config)
    config.ray_address = None
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ValueError, match=r"^RAY_ADDRESS=ray://head:10001 must be HOST:PORT .* Ray Client"):
        make_envs(config)


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'^env.workers=ray needs the package ray; pip install .* -e "\.\[ray\]"$'):
        check_ray()

"""Collection from environments in processes: the rows of one process, and no row shifted where a process dies."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.data.collector import Collector
from dreamer.data.replay import Replay
from dreamer.data.storage import columns_of
from dreamer.envs.make import make_envs

ENDLESS = 10**9
Build = Callable[..., Collector]
KILLER = signal.SIGTERM if sys.platform == "win32" else signal.SIGKILL  # what Process.kill is taken for


@pytest.fixture
def build_workers(policy_class: type, tmp_path: Path) -> Iterator[Build]:
    """Collectors of two Counters, whose episodes end with row 20; closed after the test."""
    built: list[Collector] = []

    def build(workers: str, directory: str, overlap: bool = False) -> Collector:
        envs = make_envs(
            EnvConfig(suite="dummy", name="dummy_counter", obs="both", size=16, num_envs=2, workers=workers)
        )
        columns = columns_of(envs.obs_space, envs.action_space, deter=2, stoch=1)
        replay = Replay(columns, 400, 2, 2, "ram", tmp_path / directory, seed=1)
        built.append(Collector(envs, policy_class(envs.action_space), replay, 20, seed=2, overlap=overlap))
        return built[-1]

    yield build
    for collector in built:
        collector.close()


def take(collector: Collector, steps: int) -> None:
    collector.start(steps, ENDLESS)
    collector.finish()
    collector.store()


def rows_of(collector: Collector) -> dict[str, np.ndarray]:
    """column -> [N rows ...] of what is stored."""
    replay = collector.replay
    return {key: replay._arrays[key][:, : replay.num_rows // 2] for key in replay.columns}


def assert_same(one: Collector, other: Collector) -> None:
    expected = rows_of(other)
    for key, column in rows_of(one).items():
        np.testing.assert_array_equal(column, expected[key], err_msg=key)
    assert (one.policy_steps, one.env_steps) == (other.policy_steps, other.env_steps)
    assert one.drain_episodes() == other.drain_episodes()


@pytest.mark.parametrize("overlap", [False, True])
def test_rows_are_those_of_one_process_and_so_is_what_a_resume_goes_on_with(
    build_workers: Build, overlap: bool
) -> None:
    serial, process = build_workers("serial", "one"), build_workers("process", "other", overlap)
    for collector in (serial, process):
        take(collector, 50)
    assert rows_of(serial)["is_last"].sum() == 4
    assert_same(process, serial)
    process.replay.save()
    resumed = build_workers("process", "other", overlap)
    resumed.replay.load_state_dict(process.replay.state_dict())
    resumed.load_state_dict(process.state_dict())
    for collector in (serial, resumed):
        take(collector, 30)
    assert_same(resumed, serial)


def kill(collector: Collector, index: int) -> None:
    process: Any = collector._stepper.envs._workers[index]._process  # pyright: ignore
    process.kill()
    process.join()


@pytest.mark.parametrize("is_stored", [True, False])
def test_episode_of_a_process_that_dies_ends_as_truncated(
    build_workers: Build, is_stored: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    collector = build_workers("process", "replay")
    collector.start(8, ENDLESS)
    collector.finish()
    if is_stored:
        collector.store()
    kill(collector, 1)
    take(collector, 30)
    assert capsys.readouterr().out == (
        f"Environment 1 died (killed by signal {int(KILLER)}, {signal.strsignal(KILLER)}) and was started again: "
        "its episode ends here, truncated.\n"
    )
    rows = rows_of(collector)
    index = rows["obs.counter"][..., 0]
    np.testing.assert_array_equal(index[0], np.arange(38) % 21)
    np.testing.assert_array_equal(index[1], [*range(8), *range(21), *range(9)])
    np.testing.assert_array_equal(rows["is_first"], index == 0)
    np.testing.assert_array_equal(np.flatnonzero(rows["is_last"][1]), [7, 28])
    assert not rows["is_terminal"].any()
    assert len(np.unique(rows["obs.counter"][1, :, 1])) == 3, "each episode has a seed of its own"
    assert [episode.length for episode in collector.drain_episodes()] == [20, 20]
    resets = 2 + 3
    assert (collector.policy_steps, collector.env_steps) == (76, 2 * (76 - resets))


def test_process_that_dies_between_episodes_cuts_none(build_workers: Build, capsys: pytest.CaptureFixture[str]) -> None:
    collector = build_workers("process", "replay")
    kill(collector, 0)
    take(collector, 21)
    kill(collector, 0)
    take(collector, 5)
    assert capsys.readouterr().out.count("was started again: it was between two episodes.") == 2
    assert rows_of(collector)["is_last"].sum() == 2


def test_checkpoint_of_a_process_that_died_unnoticed_is_resumed_with_its_episode_truncated(
    build_workers: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    collector = build_workers("process", "replay")
    take(collector, 8)
    kill(collector, 0)
    collector.replay.save()
    resumed = build_workers("serial", "replay")
    resumed.replay.load_state_dict(collector.replay.state_dict())
    resumed.load_state_dict(collector.state_dict())
    assert "Environment 0 did not replay its unfinished episode" in capsys.readouterr().out
    take(resumed, 4)
    index = rows_of(resumed)["obs.counter"][..., 0]
    np.testing.assert_array_equal(index, [[*range(8), *range(4)], range(12)])
    np.testing.assert_array_equal(np.argwhere(rows_of(resumed)["is_last"]), [[0, 7]])

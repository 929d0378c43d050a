"""Collection beside the updates: the schedule of lock step, rows one phase later, and nothing lost."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch

from dreamer.data.collector import THREAD_NAME
from dreamer.errors import RunStopped
from dreamer.types import Batch

Build = Callable[..., Any]


@pytest.fixture
def build_beside(build: Build) -> Iterator[Build]:
    """Runs that collect in a thread; it is ended after the test."""
    runs = []

    def build_beside(**settings: Any) -> Any:
        runs.append(build(overlap=True, **settings))
        return runs[-1]

    yield build_beside
    for run in runs:
        run.collector.close()
    assert not threads()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def record(run: Any) -> list[tuple[int, int]]:
    """For every policy step of a whole run: how many updates its weights have seen. At the end: updates and steps."""
    policy, updates, weights, steps = run.collector.policy, [0], [0], []
    act = policy.act

    def recorded(*args: Any) -> Any:
        steps.append(weights[0])
        return act(*args)

    policy.act, policy.refresh = recorded, lambda: weights.__setitem__(0, updates[0])
    for _ in run.dataset:
        updates[0] += 1
    return [*((version, index) for index, version in enumerate(steps)), (updates[0], run.collector.policy_steps)]


# Of 15 rows: less than the batch rule allows, 1/4, 2.2, and 1/4 that become 2.2 updates a step.
@pytest.mark.parametrize(("train_ratio", "early_ratio"), [(0.9, None), (3.75, None), (33.0, None), (33.0, 3.75)])
@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("max_steps", [pytest.param(399, marks=pytest.mark.slow), 400, 403])
def test_policy_of_every_step_and_number_of_updates_are_those_of_lock_step(
    build: Build, build_beside: Build, train_ratio: float, early_ratio: float | None, num_envs: int, max_steps: int
) -> None:
    ratios = dict(train_ratio=train_ratio, early_ratio=early_ratio, early_steps=70)
    settings = dict(**ratios, num_envs=num_envs, max_steps=max_steps)
    run = build_beside(**settings)
    recorded = record(run)
    assert recorded == record(build(directory="lock_step", **settings))
    updates, _ = recorded[-1]
    assert 0 < updates <= len(run.dataset)


def test_batches_do_not_see_the_steps_beside_them_and_later_ones_do(build: Build, build_beside: Build) -> None:
    settings = dict(num_envs=1, train_ratio=3.75, collect_steps=20)  # an update in four policy steps
    lock_step, beside = build(directory="lock_step", **settings), build_beside(**settings)
    assert [lock_step.replay.num_rows for _ in islice(lock_step.dataset, 20)] == [20 + 4 * i for i in range(20)]
    assert [beside.replay.num_rows for _ in islice(beside.dataset, 20)] == [20, *(20 + 4 * i for i in range(19))]


def test_rows_are_those_of_lock_step_in_their_order(build: Build, build_beside: Build) -> None:
    runs = build(directory="lock_step", length=2, max_steps=300), build_beside(length=2, max_steps=300)
    rows = []
    for run in runs:
        list(run.dataset)
        run.collector.store()  # those that wait for a batch which never comes
        ids, columns = run.replay._arrays["row_id"], run.replay._arrays
        assert (ids[:, : run.replay.num_rows // 2] == np.arange(run.replay.num_rows // 2) + 1).all()
        rows.append({key: column for key, column in columns.items() if key not in ("deter", "stoch")})
    for key, column in rows[0].items():
        np.testing.assert_array_equal(column, rows[1][key], err_msg=key)
    episodes = [run.collector.drain_episodes() for run in runs]
    assert episodes[0] == episodes[1] != []


def train(run: Any, batches: Iterator[Batch]) -> Iterator[Batch]:
    for batch in batches:
        deter = torch.stack([batch.obs["counter"][..., 0], batch.obs["action"].sum(-1) + 100], -1)
        run.dataset.write_back(batch.row_ids, deter, torch.full((*deter.shape[:2], 1), 3))
        yield batch


def same(got: list[Batch], expected: list[Batch]) -> None:
    assert len(got) == len(expected) > 0
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one.row_ids, other.row_ids)
        assert torch.equal(one.obs["counter"], other.obs["counter"])
        assert torch.equal(one.prev_action, other.prev_action)
        assert torch.equal(one.context_deter, other.context_deter)


@pytest.mark.parametrize(
    ("train_ratio", "early_ratio"),
    [pytest.param(3.75, None, marks=pytest.mark.slow), pytest.param(33.0, None, marks=pytest.mark.slow), (33.0, 3.75)],
)
@pytest.mark.parametrize("leave", ["saved", "stopped", "max_steps"])
@pytest.mark.parametrize(
    "stop_after", [pytest.param(1, marks=pytest.mark.slow), 10, pytest.param(26, marks=pytest.mark.slow)]
)
def test_run_saved_beside_a_phase_and_resumed_yields_what_an_unbroken_one_does(
    build_beside: Build, train_ratio: float, early_ratio: float | None, leave: str, stop_after: int
) -> None:
    ratios = dict(train_ratio=train_ratio, early_ratio=early_ratio, early_steps=70)
    settings = dict(**ratios, capacity=100, max_steps=400)
    unbroken = build_beside(directory="unbroken", **settings)
    expected = list(train(unbroken, iter(unbroken.dataset)))
    if leave == "max_steps":  # the run comes to its end, in the middle of a phase or not, and is prolonged
        settings["max_steps"] = 100 + 5 * stop_after
    run, got = build_beside(**settings), []
    for batch in train(run, iter(run.dataset)):
        got.append(batch)
        if leave == "stopped" and len(got) == stop_after:
            run.dataset.stop()
        if leave == "saved" and len(got) == stop_after:
            break
    file = io.BytesIO()
    torch.save(run.dataset.state_dict(), file)
    file.seek(0)
    resumed = build_beside(**{**settings, "max_steps": 400})
    resumed.dataset.load_state_dict(torch.load(file, weights_only=True))
    got += list(train(resumed, iter(resumed.dataset)))
    same(got, expected)
    assert resumed.collector.policy_steps == unbroken.collector.policy_steps
    assert len(resumed.collector.state_dict()["waiting"]) == len(unbroken.collector.state_dict()["waiting"])


def test_environments_step_in_one_thread_that_computes_alone(build_beside: Build) -> None:
    run = build_beside(max_steps=200)
    seen = set()
    for env in run.envs:
        for name in ("reset", "step", "close"):
            method = getattr(env, name)

            def noted(*args: Any, method: Callable[..., Any] = method) -> Any:
                seen.add((threading.current_thread().name, torch.get_num_threads()))
                return method(*args)

            setattr(env, name, noted)
    torch.set_num_threads(2)
    list(run.dataset)
    run.collector.close()
    assert seen == {(f"{THREAD_NAME}_0", 1)}
    assert torch.get_num_threads() == 2


def test_updates_need_not_wait_for_the_steps_beside_them(build_beside: Build) -> None:
    run = build_beside(num_envs=1, train_ratio=3.75)
    batches = iter(run.dataset)
    next(batches)
    may_act, act = threading.Event(), run.collector.policy.act

    def held(*args: Any) -> Any:
        assert may_act.wait(60)
        return act(*args)

    run.collector.policy.act = held
    before = run.collector.policy_steps
    next(batches)  # would never come if the steps had to be finished first
    assert run.collector.policy_steps == before and run.collector.is_acting
    may_act.set()
    run.dataset.finish_steps()
    assert run.collector.policy_steps == before + 4 and not run.collector.is_acting


def test_error_of_an_environment_reaches_the_caller_with_its_place(build_beside: Build) -> None:
    run = build_beside(num_envs=1)
    batches = iter(run.dataset)
    next(batches)

    def fall(action: np.ndarray) -> Any:
        raise RuntimeError("it fell over")

    run.envs[0].step = fall
    with pytest.raises(RunStopped, match="Environment 0 cannot go on") as caught:
        list(batches)
    assert ", in fall\n" in str(caught.value) and str(caught.value).endswith("RuntimeError: it fell over")


def test_close_waits_for_one_step_and_no_longer(build_beside: Build) -> None:
    run = build_beside(num_envs=1)
    act, started = run.collector.policy.act, threading.Event()

    def slow(*args: Any) -> Any:
        started.set()
        time.sleep(0.05)
        return act(*args)

    run.collector.policy.act = slow
    run.collector.start(1000, 10**9)
    assert started.wait(60)
    began = time.monotonic()
    run.collector.close()
    assert time.monotonic() - began < 20 and not threads()

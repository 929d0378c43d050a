"""With counting environments every row tells where it belongs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.data.collector import Collector
from dreamer.data.replay import Replay
from dreamer.data.storage import columns_of
from dreamer.envs.make import make_env
from dreamer.envs.vector import SerialVector

Build = Callable[..., Any]
ENDLESS = 10**9


def all_rows(run: Any) -> dict[str, np.ndarray]:
    """Every row with the one before it: column -> [N 2 ...], from exhaustive draws of sequences of two."""
    assert run.replay.length == 2
    while run.replay.num_queued:
        run.replay.sample(1)
    rows, row_ids = run.replay.sample(60 * run.replay.num_items)
    _, first = np.unique(row_ids, axis=0, return_index=True)
    assert len(first) == run.replay.num_items
    return {key: column[first] for key, column in rows.items()}


@pytest.mark.parametrize("actions", ["continuous", "discrete", "multi_discrete"])
@pytest.mark.parametrize("is_terminal", [False, True])
def test_reward_action_flags_and_latent_stand_in_the_row_they_belong_to(
    build: Build, actions: str, is_terminal: bool
) -> None:
    run = build(length=2, actions=actions, is_terminal=is_terminal, collect_steps=30)
    for _ in range(45):
        run.collector.step(ENDLESS)
    rows = all_rows(run)
    index = rows["obs.counter"][..., 0]
    np.testing.assert_array_equal(rows["reward"], index)
    np.testing.assert_array_equal(rows["is_first"][:, 1], index[:, 1] == 0)
    np.testing.assert_array_equal(rows["obs.image"][..., 0, 0, 0], index)
    ends = rows["is_last"][:, 0]
    np.testing.assert_array_equal(ends, index[:, 1] == 0)
    assert set(index[ends, 0].tolist()) == {7, 8}
    np.testing.assert_array_equal(rows["is_terminal"][:, 0], ends if is_terminal else np.zeros_like(ends))
    np.testing.assert_array_equal(index[~ends, 1], index[~ends, 0] + 1)
    led_here = np.where(ends[:, None], 0, rows["action"][:, 0])
    np.testing.assert_allclose(rows["obs.action"][:, 1], led_here)
    np.testing.assert_array_equal(rows["deter"][..., 0], index)
    np.testing.assert_allclose(rows["deter"][:, 1, 1], led_here.sum(-1), rtol=1e-6)
    np.testing.assert_array_equal(rows["action"][:, 0][ends], 0)
    np.testing.assert_array_equal(rows["stoch"][..., 0], index % 4)


def test_counters_tell_policy_steps_with_and_environment_steps_without_resets(build: Build) -> None:
    run = build(num_envs=2)  # episodes of 8 and 9 rows, 2 simulator steps an action
    for _ in range(18):
        run.collector.step(ENDLESS)
    assert run.collector.policy_steps == 36
    resets = 3 + 2  # rows 0, 8, 16 and rows 0, 9
    assert run.collector.env_steps == 2 * (36 - resets)


def test_finished_episodes_are_told_once_with_their_return_and_length(build: Build) -> None:
    run = build(num_envs=2)
    for _ in range(17):
        run.collector.step(ENDLESS)
    episodes = run.collector.drain_episodes()
    seven, eight = sum(range(8)), sum(range(9))
    assert [(episode.ret, episode.length) for episode in episodes] == [(seven, 7), (eight, 8), (seven, 7)]
    # The first ends with lock step 8, before the other environment takes its seventh action.
    assert episodes[0].env_step == 2 * (7 + 6)
    assert run.collector.drain_episodes() == []


def test_every_episode_has_its_own_seed(build: Build) -> None:
    run = build(num_envs=2, length=2)
    for _ in range(40):
        run.collector.step(ENDLESS)
    assert len(np.unique(all_rows(run)["obs.counter"][..., 1])) == 5 + 5


@pytest.mark.parametrize("actions", ["continuous", "discrete", "multi_discrete"])
def test_first_steps_are_random_and_then_the_policy_acts(build: Build, actions: str) -> None:
    run = build(num_envs=1, length=2, collect_steps=300, actions=actions, capacity=1000)
    space = run.envs[0].action_space
    for _ in range(400):
        run.collector.step(ENDLESS)
    rows = all_rows(run)
    chosen = ~rows["is_last"][:, 0]
    action, latent = rows["action"][:, 0], {"deter": rows["deter"][:, 0], "stoch": rows["stoch"][:, 0]}
    age, before = latent["deter"][:, :1], latent["deter"][:, 1:]
    place = age + np.arange(space.shape[0])
    expected = place % np.array(space.classes) if space.is_discrete else np.sin(place + before)
    is_policy = (np.abs(action - expected) < 1e-5).all(-1)
    assert is_policy[300:][chosen[300:]].all()
    random = action[:300][chosen[:300]]
    assert is_policy[:300][chosen[:300]].mean() < 0.5
    if space.is_discrete:
        for choice, classes in zip(random.T, space.classes, strict=True):
            assert set(choice.tolist()) == set(range(classes))
    else:
        assert -1 <= random.min() < -0.95 and 0.95 < random.max() <= 1 and abs(random.mean()) < 0.1


def test_collection_resumed_inside_episodes_goes_on_as_if_never_stopped(build: Build) -> None:
    one, other = build(length=2), build(length=2, directory="other")
    for _ in range(12):
        one.collector.step(ENDLESS)
        other.collector.step(ENDLESS)
    one.replay.save()
    resumed = build(length=2)
    resumed.replay.load_state_dict(one.replay.state_dict())
    resumed.collector.load_state_dict(one.collector.state_dict())
    for run in (resumed, other):
        for _ in range(30):
            run.collector.step(ENDLESS)
    assert resumed.collector.drain_episodes() == other.collector.drain_episodes()
    for (key, got), expected in zip(all_rows(resumed).items(), all_rows(other).values(), strict=True):
        np.testing.assert_array_equal(got, expected, err_msg=key)


def test_simulated_episode_is_resumed_bit_for_bit(policy_class: type, tmp_path: Path) -> None:
    def build_cartpole(directory: str) -> Collector:
        env = make_env(EnvConfig(suite="dmc", name="cartpole_swingup", obs="proprio"))
        columns = columns_of(env.obs_space, env.action_space, deter=2, stoch=1)
        replay = Replay(columns, 500, 2, 1, "ram", tmp_path / directory, seed=0)
        return Collector(SerialVector([env]), policy_class(env.action_space), replay, collect_steps=20, seed=0)

    one, other = build_cartpole("one"), build_cartpole("other")
    for collector in (one, other):
        for _ in range(30):
            collector.step(ENDLESS)
    one.replay.save()
    resumed = build_cartpole("one")
    resumed.replay.load_state_dict(one.replay.state_dict())
    resumed.load_state_dict(one.state_dict())
    for collector in (resumed, other):
        for _ in range(30):
            collector.step(ENDLESS)
    (got, _), (expected, _) = resumed.replay.sample(300), other.replay.sample(300)
    for key, column in got.items():
        np.testing.assert_array_equal(column, expected[key], err_msg=key)
    assert not got["is_last"].any()


def test_episode_that_does_not_replay_identically_ends_as_truncated(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    run = build(length=2, num_envs=1)
    for _ in range(13):  # rows 0..7, then 0..4
        run.collector.step(ENDLESS)
    run.replay.save()
    state = run.collector.state_dict()
    state["stepper"]["envs"][0]["return"] += 1  # as if the simulator computed other rewards now
    resumed = build(length=2, num_envs=1)
    resumed.replay.load_state_dict(run.replay.state_dict())
    resumed.collector.load_state_dict(state)
    assert "Environment 0 did not replay" in capsys.readouterr().out
    for _ in range(3):
        resumed.collector.step(ENDLESS)
    rows = all_rows(resumed)
    index = rows["obs.counter"][..., 0]
    is_cut = (index[:, 0] == 4) & (index[:, 1] == 0)
    assert is_cut.sum() == 1 and rows["is_last"][is_cut, 0].all() and rows["is_first"][is_cut, 1].all()
    assert not rows["is_terminal"].any()
    cut = all_rows(resumed)["is_last"][:, 1]
    assert cut.sum() == 2  # stored, not only marked in a sample: the true end and the cut one
    assert [episode.length for episode in resumed.collector.drain_episodes()] == [7]

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.types import Space, TimeStep

pytest.importorskip("ale_py")

from dreamer.envs.suites.atari import Atari


def config(**changes: Any) -> EnvConfig:
    given = {"suite": "atari", "name": "atari_pong", "game": "pong", "obs": "vision", "action_repeat": 4, **changes}
    return EnvConfig(**given)


def episode(env: Any, seed: int, num: int) -> list[TimeStep]:
    actions = np.random.default_rng(0).integers(0, env.action_space.classes[0], (num, 1)).astype(np.int32)
    return [env.reset(seed), *(env.step(action) for action in actions)]


def same(left: list[TimeStep], right: list[TimeStep]) -> bool:
    return all(
        a[1:] == b[1:] and np.array_equal(a.obs["image"], b.obs["image"]) for a, b in zip(left, right, strict=True)
    )


def test_pictures_and_actions_of_atari_100k() -> None:
    env = make_env(config())
    assert env.obs_space == {"image": Space((64, 64, 3), "uint8")}
    assert env.action_space == Space((1,), "int32", (6,)) and env.env_steps_per_action == 4
    row = episode(env, 0, 3)[-1]
    image = row.obs["image"]
    assert image.shape == (64, 64, 3) and image.std() > 10 and image.flags.writeable
    frame = env.frame()
    assert frame is not None and frame.shape == (210, 160, 3)


def test_gray_pictures_and_all_actions_are_a_matter_of_arguments() -> None:
    env = make_env(config(size=96, kwargs={"gray": True, "all_actions": True}))
    assert env.obs_space == {"image": Space((96, 96, 1), "uint8")} and env.action_space.classes == (18,)
    assert env.reset(0).obs["image"].shape == (96, 96, 1)


@pytest.mark.parametrize("sticky", [0.0, 0.25])
def test_the_seed_alone_determines_an_episode(sticky: float) -> None:
    env, other = Atari("breakout", sticky=sticky), Atari("breakout", sticky=sticky)
    first = episode(env, 5, 60)
    assert not same(first, episode(env, 6, 60))
    assert same(first, episode(env, 5, 60)) and same(first, episode(other, 5, 60))


def test_sticky_actions_change_the_game() -> None:
    plain, sticky = Atari("breakout", noops=0), Atari("breakout", noops=0, sticky=0.5)
    assert not same(episode(plain, 0, 60), episode(sticky, 0, 60))


def test_a_picture_shows_the_brighter_pixels_of_the_last_two_frames() -> None:
    double, single = (
        Atari("pong", action_repeat=2, size=210, noops=0),
        Atari("pong", action_repeat=1, size=210, noops=0),
    )
    double.reset(0)
    single.reset(0)
    for action in np.random.default_rng(0).integers(0, 6, (40, 1)).astype(np.int32):
        row = double.step(action)
        frames = [single.step(action).obs["image"] for _ in range(2)]
        np.testing.assert_array_equal(row.obs["image"], np.maximum(*frames))


def test_the_end_of_the_game_is_terminal_and_the_limit_is_not() -> None:
    env = Atari("breakout", action_repeat=4)
    row = env.reset(0)
    while not row.is_last:  # without the fire button it would wait for ever
        row = env.step(np.array([1], np.int32))
    assert row.is_terminal
    cut = Atari("breakout", action_repeat=4, length=10)
    rows = episode(cut, 0, 3)
    assert [row.is_last for row in rows] == [False, False, False, True] and not rows[-1].is_terminal
    with pytest.raises(AssertionError, match="reset"):
        cut.step(np.zeros(1, np.int32))


def test_advance_is_step_without_a_picture() -> None:
    stepped, advanced = Atari("pong", sticky=0.25), Atari("pong", sticky=0.25)
    stepped.reset(3)
    advanced.reset(3)
    for action in np.random.default_rng(0).integers(0, 6, (30, 1)).astype(np.int32):
        row = advanced.advance(action)
        assert row.obs == {} and row[1:] == stepped.step(action)[1:]
    np.testing.assert_array_equal(stepped.simulator_state(), advanced.simulator_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"game": "pogn"}, "env.game=pogn is not a game of ale_py; did you mean pong"),
        ({"kwargs": {"size": 96}}, "env.kwargs.size is set by env.size; give env.size=... instead."),
        ({"kwargs": {"stiky": 1}}, "env.kwargs.stiky is not an argument of env=atari; did you mean sticky?"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_the_user_typed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_env(config(**changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("suite", "package"), [("atari", "ale_py"), ("crafter", "crafter")])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    suite: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(ValueError) as caught:
        make_env(config(suite=suite))
    assert (
        str(caught.value)
        == f'env={suite} needs the package {package}; pip install -c requirements.lock -e ".[{suite}]"'
    )

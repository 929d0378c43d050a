"""What the environments tell of their own actions is what they make of ours."""

from __future__ import annotations

import numpy as np
import pytest
from gymnasium import spaces

from dreamer.envs.spec import ActionChoices, ActionRange, HasUnits
from dreamer.envs.suites.crafter import make as make_crafter
from dreamer.envs.suites.dmc import DMC
from dreamer.envs.suites.spaces import action_of
from dreamer.export.step import plain_units


def in_units(action: np.ndarray, units: ActionRange | ActionChoices) -> np.ndarray:
    """By the words of `ActionRange` and `ActionChoices`, entry by entry."""
    if isinstance(units, ActionChoices):
        return action + units.first
    values = []
    for i, entry in enumerate(np.clip(action, -1, 1).astype(float)):
        value = units.low[i] + (entry + 1) / 2 * (units.high[i] - units.low[i])
        value = np.rint(value) if units.is_whole[i] else value
        values.append(min(max(value, units.least[i]), units.most[i]))
    return np.array(values)


SPACES = {
    "box": spaces.Box(np.array([[-2.0, 0.0]]), np.array([[2.0, 1.0]]), dtype=np.float64),
    "one_bound": spaces.Box(np.array([-np.inf, 0.25]), np.array([-0.5, np.inf]), dtype=np.float64),
    "no_bound": spaces.Box(-np.inf, np.inf, (2,)),
    "whole": spaces.Box(0, 9, (3,), np.int32),
    "discrete": spaces.Discrete(4, start=-2),
    "multi_discrete": spaces.MultiDiscrete([[3, 2]], start=[[5, 1]]),
    "multi_binary": spaces.MultiBinary(3),
    "boxes": spaces.Tuple([spaces.Box(0, 9, (1,), np.int32), spaces.Box(-3, 1, (2,))]),
    "choices": spaces.Tuple([spaces.Discrete(3, start=1), spaces.MultiBinary(2)]),
}


@pytest.mark.parametrize("name", SPACES)
def test_units_say_what_decode_does(name):
    action, draw = action_of(SPACES[name], "env.id=X"), np.random.default_rng(0)
    for _ in range(50):
        if action.space.is_discrete:
            ours = draw.integers(action.space.classes).astype(np.int32)
        else:
            ours = draw.uniform(-1.5, 1.5, action.space.shape).astype(np.float32)
        theirs = action.decode(ours)
        flat = np.concatenate([np.ravel(part) for part in (theirs if isinstance(theirs, tuple) else (theirs,))])
        np.testing.assert_allclose(flat, in_units(ours, action.units), rtol=1e-6)


def test_a_task_of_the_suite_tells_its_bounds_and_the_names_of_its_joints():
    env = DMC("quadruped_walk", "proprio", 1, size=64, camera=0)
    assert isinstance(env, HasUnits)
    units = env.action_units
    assert units.names[:3] == ("yaw_front_left", "lift_front_left", "extend_front_left")
    np.testing.assert_allclose(units.high[:3], [1, 1.1, 0.8])
    action = np.linspace(-1.2, 1.2, 12, dtype=np.float32)
    np.testing.assert_allclose(env.translate(action), in_units(action, units))
    env.close()


def test_choices_of_games_have_names(composed):
    from dreamer.config.compose import parse

    crafter = make_crafter(parse(composed("env=crafter")).env)
    assert isinstance(crafter.action_units, ActionChoices)
    assert crafter.action_units.names[:2] == ("noop", "move_left")
    assert len(crafter.action_units.names) == crafter.action_space.classes[0]
    crafter.close()


@pytest.mark.parametrize("space", ["box", "discrete"])
def test_an_environment_that_says_nothing_counts_as_we_do(space):
    action = action_of(SPACES[space], "env.id=X").space
    ours = np.array([2], np.int32) if action.is_discrete else np.array([-3, 0.5], np.float32)
    expected = ours if action.is_discrete else [-1, 0.5]
    np.testing.assert_allclose(in_units(ours, plain_units(action)), expected)

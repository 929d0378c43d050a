"""Classes of the user's: with the methods of gymnasium or of dm_env, and what is said of others."""

from __future__ import annotations

from typing import Any

import dm_env
import numpy as np
import pytest
import robots
from dm_env import specs
from gymnasium import spaces

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.envs.suites.custom import FromDmEnv, to_space
from dreamer.types import Space


def config(name: str, **changes: Any) -> EnvConfig:
    return EnvConfig(
        **{"suite": "custom", "name": name, "class_": name, "obs": "auto", "action_repeat": 1, "size": None, **changes}
    )


def test_a_class_with_the_methods_of_gymnasium_runs() -> None:
    env = make_env(config("robots.Arm", kwargs={"length": 3}))
    assert env.action_space == Space((3,), "int32", (3, 2, 4))
    env.reset(0)
    rows = [env.step(np.zeros(3, np.int32)) for _ in range(3)]
    assert [row.is_last for row in rows] == [False, False, True]
    frame = env.frame()
    assert frame is not None and frame.shape == (192, 256, 3), "it was told to draw itself"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_class_with_the_methods_of_dm_env_runs(is_terminal: bool) -> None:
    name = "robots:Walker"
    env = make_env(config(name, kwargs={"length": 3, "is_terminal": is_terminal}, action_repeat=2))
    assert env.obs_space == {
        "foot": Space((2,), "int32", (2, 2)),
        "image": Space((96, 96, 3), "uint8"),
        "speed": Space((3,), "float32"),
    }
    assert env.action_space == Space((2,), "float32")
    first, low, end = env.reset(0), np.full(2, -1, np.float32), np.ones(2, np.float32)
    assert first.is_first and env.step(low).reward == -4
    row = env.step(end)  # only one of its two steps is left
    assert (row.reward, row.is_last, row.is_terminal) == (2, True, is_terminal)
    again = env.reset(0)
    np.testing.assert_array_equal(first.obs["speed"], again.obs["speed"])
    assert not np.array_equal(env.reset(1).obs["speed"], again.obs["speed"])


def test_a_class_that_takes_no_seed_runs_and_a_line_says_what_that_costs(capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env(config("robots.Unseeded"))
    assert env.reset(0).obs["state"] == 0 and env.step(np.ones(1, np.int32)).obs["state"] == 1
    assert capsys.readouterr().out.startswith("env.class=robots.Unseeded: neither reset(seed=...) nor seed(...)")


def test_a_function_that_returns_an_environment_is_as_good_as_a_class() -> None:
    env = make_env(config("robots.make_arm", kwargs={"length": 3}))
    assert env.action_space == Space((3,), "int32", (3, 2, 4)) and env.reset(0).is_first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_": "Arm"}, "env.class=Arm must name a module and a class, such as my_env.Arm."),
        ({"class_": "nowhere.Arm"}, "env.class=nowhere.Arm cannot be imported from "),
        ({"class_": "robots.Amr"}, "env.class=robots.Amr: robots has no Amr; did you mean Arm?"),
        ({"class_": "robots.np"}, "env.class=robots.np is <module 'numpy'"),
        (
            {"class_": "os.system"},
            "env.class=os.system is <built-in function system>, not a class, nor a Python function",
        ),
        ({"class_": "subprocess.Popen"}, "env.class=subprocess.Popen has neither the methods of gymnasium.Env (reset,"),
        ({"class_": "robots.NOT_A_CLASS"}, "env.class=robots.NOT_A_CLASS is <robots.Arm object at"),
        (
            {"class_": "robots.Nothing"},
            "env.class=robots.Nothing has neither the methods of gymnasium.Env (reset, step,",
        ),
        (
            {"kwargs": {"lenght": 3}},
            "env.kwargs.lenght is not an argument of env.class=robots.Arm; did you mean length?",
        ),
        ({"class_": "robots.Wired"}, "env.kwargs.port has no value; give env.kwargs.port=... on the command line"),
        (
            {"class_": "robots.Undrawn", "kwargs": {"length": 1, "size": 5}},
            "env.kwargs.size is not an argument of env.class=robots.Undrawn;",
        ),
        (
            {"class_": "robots.Unseeded", "kwargs": {"size": 5}},
            "env.kwargs.size is not an argument of env.class=robots.Unseeded; there is none.",
        ),
        ({"import_": "nowhere"}, "env.import=nowhere cannot be imported from "),
        ({"leave_out": ["tim"]}, "env.leave_out=tim is no observation of env.class=robots.Arm; did you mean time?"),
        ({"class_": "robots.Board", "kwargs": {"size": 2}}, "env.class=robots.Board cannot be made: no room in 2 ("),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_the_user_typed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_env(config("robots.Arm", **changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "space"),
    [
        (specs.DiscreteArray(4), spaces.Discrete(4)),
        (specs.Array((2,), np.uint8), spaces.Box(0, 255, (2,), np.uint8)),
        (specs.Array((), np.float32), spaces.Box(-np.inf, np.inf, ())),
        (
            specs.BoundedArray((2,), np.float64, [-1, 0], 3),
            spaces.Box(np.array([-1.0, 0]), np.array([3.0, 3]), dtype=float),
        ),
        (specs.Array((), bool), spaces.MultiBinary(1)),
        (specs.Array((0,), bool), spaces.Box(0, 1, (0,), bool)),
        ((specs.DiscreteArray(2), specs.DiscreteArray(3)), spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)])),
        ({"a": specs.DiscreteArray(2)}, spaces.Dict({"a": spaces.Discrete(2)})),
    ],
)
def test_specs_of_dm_env_become_spaces(spec: Any, space: spaces.Space) -> None:
    assert to_space(spec, "env.class=X: observation") == space


def test_words_are_no_observation() -> None:
    with pytest.raises(ValueError, match=r"^env.class=X: observation the_task is StringArray.*has no fixed shape"):
        to_space({"the\ntask": specs.StringArray(())}, "env.class=X: observation")


@pytest.mark.parametrize(
    ("spec", "ours", "theirs"),
    [
        (specs.DiscreteArray(4), np.int64(3), np.int32(3)),
        (specs.Array((), bool), np.ones(1, np.int8), np.bool_(True)),
        ([specs.DiscreteArray(4, np.int8), specs.Array((2,), float)], (1, [0.5, 1]), (np.int8(1), np.array([0.5, 1]))),
    ],
)
def test_an_action_has_the_type_and_shape_that_its_spec_validates(
    spec: Any, ours: Any, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []

    def step(self: robots.Walker, action: Any) -> dm_env.TimeStep:
        taken.append(action)
        return dm_env.transition(0.0, self.observe())

    monkeypatch.setattr(robots.Walker, "action_spec", lambda self: spec)
    monkeypatch.setattr(robots.Walker, "step", step)
    FromDmEnv(robots.Walker(), "env.class=X").step(ours)
    parts = [taken[0], spec, theirs] if isinstance(spec, list) else [taken, [spec], [theirs]]
    for action, part, expected in zip(*parts, strict=True):
        part.validate(action)
        np.testing.assert_array_equal(action, expected)

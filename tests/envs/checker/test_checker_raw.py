"""What is told of environments as their authors wrote them, in gymnasium's form or dm_env's, and of the way to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dm_env
import gymnasium
import numpy as np
import pytest
from dm_env import specs
from gymnasium import spaces

from dreamer.config.schema import EnvConfig
from dreamer.envs.checker.examine import build, examine
from dreamer.envs.checker.findings import Findings
from dreamer.envs.checker.raw import check_in, check_raw, raw_of
from dreamer.envs.suites.dummy import Counter

LENGTH = 6
STEPS = 40


class Plain(gymnasium.Env):
    """Sound: `change` alters what reset (two values) and step (five) return."""

    def __init__(self, change: Callable[[tuple[Any, ...]], Any] = lambda result: result) -> None:
        self.observation_space = spaces.Dict(
            {"pose": spaces.Box(-1, 1, (3,), np.float32), "view": spaces.Box(0, 255, (16, 16, 3), np.uint8)}
        )
        self.action_space = spaces.Box(-2, 2, (2,), np.float32)
        self._change = change

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._index = 0
        return self._change((self._look(), {}))

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action)
        self._index += 1
        return self._change((self._look(), float(action[0]), self._index == LENGTH, False, {}))

    def _look(self) -> dict[str, np.ndarray]:
        view = self.np_random.integers(256, size=(16, 16, 3), dtype=np.uint8)
        return {"pose": self.np_random.uniform(-1, 1, 3).astype(np.float32), "view": view}


def look(**values: Callable[[np.ndarray], Any]) -> Callable[[tuple[Any, ...]], Any]:
    def change(result: tuple[Any, ...]) -> Any:
        return ({**result[0], **{key: change(result[0][key]) for key, change in values.items()}}, *result[1:])

    return change


def at_step(index: int, value: Any) -> Callable[[tuple[Any, ...]], Any]:
    return lambda result: result if len(result) == 2 else (*result[:index], value, *result[index + 1 :])


RAW = {
    "outside": (
        look(pose=lambda x: x * 0 + 3),
        "error",
        "['pose'] is outside its space: entry [0] is 3, the bounds are",
    ),
    "image from 0 to 1": (look(view=lambda x: x / 255), "error", "['view'] is float64, but its space promises uint8"),
    "float64": (
        look(pose=lambda x: x.astype(np.float64)),
        "note",
        "['pose'] is float64, but its space promises float32",
    ),
    "shape": (look(pose=lambda x: x[:2]), "error", "['pose'] has the shape [2], but its space promises [3]"),
    "NaN": (look(pose=lambda x: x * np.nan), "error", "['pose'] holds NaN or infinity"),
    "text": (look(pose=lambda x: "left"), "error", "['pose'] is a str, not an array of numbers"),
    "missing": (lambda result: ({"pose": result[0]["pose"]}, *result[1:]), "error", "the observation lacks view"),
    "extra": (lambda result: ({**result[0], "t": 0}, *result[1:]), "warning", "the observation has t, which its space"),
    "no dictionary": (lambda result: (result[0]["pose"], *result[1:]), "error", "is a ndarray, not a dictionary"),
    "no info": (lambda result: result[0] if len(result) == 2 else result, "error", "reset returns a dict, not (obs"),
    "old gym": (lambda result: result if len(result) == 2 else result[:4], "error", "step returns a tuple of 4, not"),
    "reward": (at_step(1, "much"), "error", "the reward is a str"),
    "NaN reward": (at_step(1, np.nan), "error", "the reward is nan"),
    "terminated": (at_step(2, 0), "warning", "terminated is 0, not True or False"),
    "info": (at_step(4, None), "warning", "info is a NoneType"),
}


@pytest.mark.parametrize("name", RAW)
def test_a_fault_of_a_gymnasium_environment_is_the_one_thing_told(name: str) -> None:
    change, level, text = RAW[name]
    (finding,) = check_raw(Plain(change), STEPS, 0)
    assert finding.level == level and text in finding.what, finding
    assert finding.times > 1 or "returns" in finding.what


class Forgetful(Plain):
    def reset(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().reset(seed=0)


def test_an_environment_without_a_seed_is_warned_of() -> None:
    (finding,) = check_raw(Forgetful(), STEPS, 0)
    assert (finding.level, finding.what) == ("warning", "it takes no seed: neither reset(seed=...) nor seed(...).")


@pytest.mark.parametrize(
    ("space", "value", "text"),
    [
        (spaces.Discrete(3), 3, "it is 3, outside Discrete(3)."),
        (spaces.MultiBinary(2), np.array([0, 2], np.int8), "it is array([0, 2], dtype=int8), outside MultiBinary(2)."),
        (spaces.Tuple([spaces.Discrete(3)]), (1, 1), "it is a tuple of 2, not a tuple of 1."),
        (spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2)]), (1, 2), "it[1] is 2, outside Discrete(2)."),
        (spaces.Box(0, 1, (2,)), [[1], [2, 3]], "it is a list, not an array of numbers."),
    ],
    ids=str,
)
def test_values_outside_a_space_are_told_by_place(space: Any, value: Any, text: str) -> None:
    findings = Findings()
    check_in(space, value, "it", findings)
    (finding,) = findings
    assert (finding.level, finding.what) == ("error", text)


class Pendulum(dm_env.Environment):
    """Sound; `change` alters each row."""

    def __init__(self, change: Callable[[dm_env.TimeStep], Any] = lambda row: row) -> None:
        self._change = change

    def seed(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def observation_spec(self) -> Any:
        return {"angle": specs.BoundedArray((1,), np.float32, -3.2, 3.2)}

    def action_spec(self) -> Any:
        return specs.BoundedArray((1,), np.float32, -1, 1)

    def reset(self) -> dm_env.TimeStep:
        self._index = 0
        return self._change(dm_env.restart(self._look()))

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        self._index += 1
        make = dm_env.truncation if self._index == LENGTH else dm_env.transition
        return self._change(make(float(action[0]), self._look()))

    def _look(self) -> dict[str, np.ndarray]:
        return {"angle": self._random.uniform(-3, 3, 1).astype(np.float32)}


DM_ENV = {
    "outside": (lambda row: row._replace(observation={"angle": np.full(1, 4, np.float32)}), "is outside its space"),
    "no row": (lambda row: tuple(row), "reset returns a tuple of 4, not a dm_env.TimeStep"),
    "first": (lambda row: row._replace(step_type=dm_env.StepType.MID), "reset returns a row of step_type"),
    "reward": (lambda row: row._replace(reward=None), "the reward is a NoneType"),
    "discount": (lambda row: row if row.first() else row._replace(discount=2.0), "the discount is 2.0"),
}


@pytest.mark.parametrize("name", DM_ENV)
def test_a_fault_of_a_dm_env_environment_is_the_one_thing_told(name: str) -> None:
    change, text = DM_ENV[name]
    (finding,) = check_raw(Pendulum(change), STEPS, 0)
    assert finding.level == "error" and text in finding.what, finding


def test_sound_environments_of_others_have_no_findings() -> None:
    for env in (Plain(), Pendulum()):
        assert check_raw(env, STEPS, 0) == []


class Both(Plain):
    """Its methods are gymnasium's, and it has specs beside them."""

    def observation_spec(self) -> Any:
        return Pendulum().observation_spec()

    def action_spec(self) -> Any:
        return Pendulum().action_spec()


# -- from a config


class Outside(Plain):
    def __init__(self) -> None:
        super().__init__(look(pose=lambda pose: pose + 5))


class Unplugged(Plain):
    def __init__(self) -> None:
        raise OSError("no robot on port 3")


class Misconfigured(Plain):
    def __init__(self) -> None:
        raise ValueError("port must be given")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], Any]:
    """What `build` gives for a class of this file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))

    def made(own: type) -> Any:
        path = f"test_checker_raw.{own.__name__}"
        return build(EnvConfig("custom", own.__name__, obs="auto", action_repeat=1, size=None, class_=path))

    return made


def test_the_environment_inside_an_adapter_is_checked_first(made: Callable[[type], Any]) -> None:
    report = examine(made(Outside), STEPS, 0)
    assert [finding.what.split(":")[0] for finding in report.findings] == [
        "the observation['pose'] is outside its space"
    ]
    assert not report.is_sound and report.seen == {}, "what comes after would tell the same again"


@pytest.mark.parametrize("own", [Plain, Pendulum, Both], ids=lambda own: own.__name__)
def test_a_sound_class_of_the_users_has_no_findings(made: Callable[[type], Any], own: type) -> None:
    env = made(own)
    assert isinstance(raw_of(env), own)
    report = examine(env, STEPS, 0)
    assert report.findings == [] and report.lengths == [LENGTH] * 7 and report.seen.keys() == env.obs_space.keys()


def test_an_environment_of_ours_has_nothing_inside() -> None:
    assert raw_of(Counter()) is None


def test_a_constructor_that_raises_is_told_with_its_lines(made: Callable[[type], Any]) -> None:
    (finding,) = made(Unplugged)
    assert finding.what == "it cannot be made: OSError: no robot on port 3" and "in __init__" in finding.trace
    with pytest.raises(ValueError, match="port must be given"):
        made(Misconfigured)

"""A sound environment passes; each of these broken ones has the one finding that tells what is wrong with it."""

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

from dreamer.config import EnvConfig
from dreamer.envs.checker.check import check
from dreamer.envs.checker.examine import build, examine
from dreamer.envs.checker.findings import Finding, Findings
from dreamer.envs.checker.raw import check_in, check_raw, raw_of
from dreamer.envs.checker.table import describe, sheet_of, summary
from dreamer.envs.dummy import TASKS, Counter
from dreamer.types import Space, TimeStep

LENGTH = 6
STEPS = 40


class Sound:
    """Six steps of noise from the seed. `change` may put into each row what does not belong there."""

    def __init__(self, change: Callable[[TimeStep], Any] = lambda row: row) -> None:
        self.obs_space = {"state": Space((2,), "float32"), "image": Space((16, 16, 3), "uint8")}
        self.action_space = Space((2,), "float32")
        self.env_steps_per_action = 1
        self._change = change

    def reset(self, seed: int) -> Any:
        self._random, self._index = np.random.default_rng(seed), 0
        return self._row(0.0)

    def step(self, action: np.ndarray) -> Any:
        assert self._index < LENGTH, "reset comes first"
        self._index += 1
        return self._row(float(np.clip(action, -1, 1).sum()))

    def _row(self, reward: float) -> Any:
        is_last = self._index == LENGTH
        obs = {"state": self._random.normal(size=2).astype(np.float32), "image": self.frame()}
        return self._change(TimeStep(obs, reward, self._index == 0, is_last, is_last))

    def frame(self) -> Any:
        return self._random.integers(256, size=(16, 16, 3), dtype=np.uint8)

    def close(self) -> None:
        pass


def told(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in findings]


def observe(**values: Callable[[np.ndarray], Any]) -> Callable[[TimeStep], TimeStep]:
    """Changes of single observations."""
    return lambda row: row._replace(obs={**row.obs, **{key: change(row.obs[key]) for key, change in values.items()}})


def steps_only(**values: Any) -> Callable[[TimeStep], TimeStep]:
    return lambda row: row if row.is_first else row._replace(**values)


ROWS = {
    "float image": (observe(image=lambda x: (x / 255).astype(np.float32)), "error", "image is float32, but obs_space"),
    "float64": (observe(state=lambda x: x.astype(np.float64)), "error", "state is float64, but obs_space promises"),
    "list": (observe(state=list), "error", "observation state is a list"),
    "shape": (observe(state=lambda x: x[:, None]), "error", "state has the shape [2, 1], but obs_space promises [2]"),
    "shape that changes": (
        observe(state=lambda x: x[: 1 + (x[0] > 0)]),
        "error",
        "state has the shape [1], but obs_space promises [2]",
    ),
    "NaN": (observe(state=lambda x: x * np.float32(np.nan)), "error", "observation state holds NaN or infinity"),
    "missing key": (lambda row: row._replace(obs={"image": row.obs["image"]}), "error", "the observation lacks state"),
    "extra key": (lambda row: row._replace(obs={**row.obs, "time": row.obs["state"]}), "error", "has time, which"),
    "no dictionary": (lambda row: row._replace(obs=row.obs["state"]), "error", "the observation is a ndarray"),
    "no row": (lambda row: tuple(row), "error", "reset returns a tuple, not a TimeStep"),
    "reward as an array": (steps_only(reward=np.ones(1)), "error", "the reward is a ndarray of shape [1]"),
    "reward None": (lambda row: row._replace(reward=None), "error", "the reward is a NoneType"),
    "infinite reward": (steps_only(reward=np.inf), "error", "the reward is inf"),
    "reward of reset": (lambda row: row._replace(reward=1.0), "error", "the first row has the reward 1"),
    "no is_first": (lambda row: row._replace(is_first=False), "error", "reset returns a row without is_first"),
    "is_first": (steps_only(is_first=True), "error", "step returns a row with is_first"),
    "is_terminal": (steps_only(is_terminal=True), "error", "a row has is_terminal but not is_last"),
    "flag": (lambda row: row._replace(is_last=int(row.is_last)), "error", "is_last is 0"),
    "dark image": (observe(image=lambda x: x // 128), "warning", "observation image holds no value but 0 and 1"),
    "constant": (observe(state=np.zeros_like), "note", "observation state is the same in every row"),
    "huge": (observe(state=lambda x: x * 1e6), "note", "observation state reaches -"),
    "no reward": (lambda row: row._replace(reward=0.0), "note", "random actions met no reward in 42 steps"),
}
"""What is done to each row, and what must be told."""


@pytest.mark.parametrize("name", ROWS)
def test_a_fault_in_the_rows_is_the_one_thing_told(name: str) -> None:
    change, level, text = ROWS[name]
    (finding,) = check(Sound(change), STEPS, 0).findings
    assert finding.level == level and text in finding.what and finding.why, finding


class Crashes(Sound):
    def step(self, action: np.ndarray) -> Any:
        if self._index == 3:
            raise RuntimeError("the motor is hot")
        return super().step(action)


class Shortsighted(Sound):
    def reset(self, seed: int) -> Any:
        np.random.RandomState(seed)
        return super().reset(seed)


class Narrow(Sound):
    def step(self, action: np.ndarray) -> Any:
        if np.abs(action).max() >= 1:
            raise ValueError("action out of bounds")
        return super().step(action)


class Unclipped(Sound):
    def step(self, action: np.ndarray) -> Any:
        if np.abs(action).max() > 1:
            raise ValueError("action out of bounds")
        return super().step(action)


class Greedy(Sound):
    def step(self, action: np.ndarray) -> Any:
        row = super().step(action)
        action[:] = 0
        return row


class Aliased(Sound):
    def __init__(self) -> None:
        super().__init__(observe(state=self._overwritten))
        self._state = np.zeros(2, np.float32)

    def _overwritten(self, state: np.ndarray) -> np.ndarray:
        self._state[:] = state
        return self._state


class Unseeded(Sound):
    def reset(self, seed: int) -> Any:
        row = super().reset(seed)
        self._random = np.random.default_rng()
        return row


class SameForAll(Sound):
    def reset(self, seed: int) -> Any:
        return super().reset(0)


class Endless(Sound):
    def step(self, action: np.ndarray) -> Any:
        self._index = 1
        return self._row(1.0)


class OnAndOn(Sound):
    def step(self, action: np.ndarray) -> Any:
        self._index %= LENGTH
        return super().step(action)


class Vague(Sound):
    def frame(self) -> Any:
        return np.zeros((16, 16, 3))

    def _row(self, reward: float) -> Any:
        row = super()._row(reward)
        return row._replace(obs={**row.obs, "image": self._random.integers(256, size=(16, 16, 3), dtype=np.uint8)})


class Hanging(Sound):
    def close(self) -> None:
        raise OSError("the port is gone")


class Replayed(Sound):
    """With an `advance` of its own, which forgets the reward."""

    def advance(self, action: np.ndarray) -> TimeStep:
        return self.step(action)._replace(obs={}, reward=-1.0)

    def simulator_state(self) -> np.ndarray:
        return np.array([self._index])


class Deaf:
    def reset(self, seed: int) -> None:
        raise AssertionError("never called")


class Unequal(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.obs_space["depth"] = Space((8, 16, 1), "uint8")


class Flat(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.obs_space["depth"] = Space((16, 16), "uint8")


CLASSES = {
    Crashes: ("error", "step raises: RuntimeError: the motor is hot"),
    Shortsighted: ("error", "reset raises: ValueError: Seed must be between 0 and"),
    Narrow: ("error", "step refuses the action [-1.0, -1.0]: ValueError: action out of bounds"),
    Unclipped: ("error", "step refuses the action [1.5, 1.5]: ValueError: action out of bounds"),
    Greedy: ("warning", "step changes the action that it is given"),
    Aliased: ("warning", "observation state is one array that the next step overwrites"),
    Unseeded: ("warning", "the same seed and actions give another episode: state of row 1 differs"),
    SameForAll: ("note", "4 seeds give the same episode, over 6 steps"),
    Endless: ("note", "3 of 3 episodes did not end within the limit"),
    OnAndOn: ("warning", "a step after the end is not refused"),
    Vague: ("error", "frame() returns float64 [16, 16, 3]"),
    Hanging: ("error", "close raises: OSError: the port is gone"),
    Replayed: ("warning", "is_terminal) (-1.0, False, False, False) where step gave ("),
    Deaf: ("error", "the environment has no obs_space, action_space, env_steps_per_action, step, frame, close"),
    Unequal: ("error", "pictures differ in size: image 16 x 16, depth 8 x 16"),
    Flat: ("error", "obs_space['depth'] is uint8 [16, 16], which is no picture"),
}


@pytest.mark.parametrize("broken", CLASSES, ids=lambda broken: broken.__name__)
def test_a_fault_of_behaviour_is_the_one_thing_told(broken: type) -> None:
    level, text = CLASSES[broken]
    report = check(broken(), STEPS, 0)
    assert len(report.findings) == 1, told(report.findings)
    assert report.findings[0].level == level and text in report.findings[0].what, told(report.findings)
    assert report.is_sound == (level != "error")


def test_a_sound_environment_has_no_findings_and_its_numbers_are_told() -> None:
    report = check(Sound(), STEPS, 0)
    assert report.findings == [] and report.is_sound
    assert report.lengths == [LENGTH] * 7 and (report.num_terminal, report.num_cut, report.num_steps) == (7, 0, 42)
    assert len(report.rewards) == 42 and report.steps_per_second is not None and report.drawing is None
    assert report.seen["image"].low == 0 and report.seen["image"].high == 255 and report.seen["state"].low < -1
    lines = describe(Sound(), report)
    assert lines["obs.image"] == "uint8 [16 16 3]; seen 0 to 255 of 0 to 255"
    assert lines["episodes"] == "7 ended, after 6 policy steps: 7 truly, 0 at a time limit"
    assert lines["reward"].endswith("not 0 in 100.0% of 42 steps") and lines["action"] == "float32 [2] in [-1, 1]"


@pytest.mark.parametrize("name", [name for name in TASKS if name != "dummy_counter"])
def test_our_own_tasks_have_no_errors_or_warnings(name: str) -> None:
    findings = check(TASKS[name](obs="both", action_repeat=2, size=16), 60, 0).findings
    assert {finding.level for finding in findings} <= {"note"}, told(findings)


def test_an_exception_tells_where_it_came_in_the_environments_own_lines() -> None:
    (finding,) = check(Crashes(), STEPS, 0).findings
    assert finding.place == "episode 0, step 4" and finding.times > 1
    assert "test_checker.py" in finding.trace and 'RuntimeError("the motor is hot")' in finding.trace
    assert "driver.py" not in finding.trace, "no line of the checker"
    assert str(finding).startswith("error    step raises: RuntimeError: the motor is hot (episode 0, step 4, and ")


def test_what_follows_a_fault_is_still_checked() -> None:
    report = check(Unclipped(lambda row: row._replace(is_first=False)), STEPS, 0)
    assert {finding.what.split(":")[0] for finding in report.findings} == {
        "step refuses the action [1.5, 1.5]",
        "reset returns a row without is_first.",
    }
    assert summary(report.findings) == "2 errors, 0 warnings, 0 notes"


def test_a_float_picture_among_the_spaces_is_a_warning() -> None:
    env = Sound(lambda row: row._replace(obs={**row.obs, "image": (row.obs["image"] / 255).astype(np.float32)}))
    env.obs_space["image"] = Space((16, 16, 3), "float32")
    (finding,) = check(env, STEPS, 0).findings
    assert finding.level == "warning" and "has the shape of a picture, [16, 16, 3], but is float32" in finding.what


def test_frames_are_few_however_long_it_plays_and_fit_a_sheet() -> None:
    for num_steps in (1, 20, 500):
        frames = check(Counter("vision", length=50), num_steps, 0).frames
        assert 4 <= len(frames) <= 16
    rows = [int(frame[0, 0, 0]) for frame in frames]
    assert len(set(rows)) > 4, "from all over the episodes"
    sheet = sheet_of(frames)
    assert sheet.shape[1] == 4 * 130 and sheet.shape[0] % 130 == 0
    np.testing.assert_array_equal(sheet[:128:8, 130:258:8], frames[1])
    assert (sheet[:130, 128:130] == 128).all() and (sheet[128:130, :130] == 128).all(), "lines between"


# -- before it is one of ours


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
    assert told(check_raw(Forgetful(), STEPS, 0)) == [
        ("warning", "it takes no seed: neither reset(seed=...) nor seed(...).")
    ]


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
    assert told(list(findings)) == [("error", text)]


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
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def made(own: type) -> Any:
        path = f"test_checker.{own.__name__}"
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
    assert told(report.findings) == [] and report.lengths == [LENGTH] * 7 and report.seen.keys() == env.obs_space.keys()


def test_an_environment_of_ours_has_nothing_inside() -> None:
    assert raw_of(Counter()) is None


def test_a_constructor_that_raises_is_told_with_its_lines(made: Callable[[type], Any]) -> None:
    (finding,) = made(Unplugged)
    assert finding.what == "it cannot be made: OSError: no robot on port 3" and "in __init__" in finding.trace
    with pytest.raises(ValueError, match="port must be given"):
        made(Misconfigured)

"""A sound environment passes; each of these broken ones has the one finding that tells what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dreamer.envs.checker.check import check_environment
from dreamer.envs.checker.findings import Finding
from dreamer.envs.checker.table import describe, sheet_of, summary
from dreamer.envs.suites.dummy import TASKS, Counter
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
    (finding,) = check_environment(Sound(change), STEPS, 0).findings
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
    report = check_environment(broken(), STEPS, 0)
    assert len(report.findings) == 1, told(report.findings)
    assert report.findings[0].level == level and text in report.findings[0].what, told(report.findings)
    assert report.is_sound == (level != "error")


def test_a_sound_environment_has_no_findings_and_its_numbers_are_told() -> None:
    report = check_environment(Sound(), STEPS, 0)
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
    findings = check_environment(TASKS[name](obs="both", action_repeat=2, size=16), 60, 0).findings
    assert {finding.level for finding in findings} <= {"note"}, told(findings)


def test_an_exception_tells_where_it_came_in_the_environments_own_lines() -> None:
    (finding,) = check_environment(Crashes(), STEPS, 0).findings
    assert finding.place == "episode 0, step 4" and finding.times > 1
    assert "test_checker.py" in finding.trace and 'RuntimeError("the motor is hot")' in finding.trace
    assert "driver.py" not in finding.trace, "no line of the checker"
    assert str(finding).startswith("error    step raises: RuntimeError: the motor is hot (episode 0, step 4, and ")


def test_what_follows_a_fault_is_still_checked() -> None:
    report = check_environment(Unclipped(lambda row: row._replace(is_first=False)), STEPS, 0)
    assert {finding.what.split(":")[0] for finding in report.findings} == {
        "step refuses the action [1.5, 1.5]",
        "reset returns a row without is_first.",
    }
    assert summary(report.findings) == "2 errors, 0 warnings, 0 notes"


def test_a_float_picture_among_the_spaces_is_a_warning() -> None:
    env = Sound(lambda row: row._replace(obs={**row.obs, "image": (row.obs["image"] / 255).astype(np.float32)}))
    env.obs_space["image"] = Space((16, 16, 3), "float32")
    (finding,) = check_environment(env, STEPS, 0).findings
    assert finding.level == "warning" and "has the shape of a picture, [16, 16, 3], but is float32" in finding.what


def test_frames_are_few_however_long_it_plays_and_fit_a_sheet() -> None:
    for num_steps in (1, 20, 500):
        frames = check_environment(Counter("vision", length=50), num_steps, 0).frames
        assert 4 <= len(frames) <= 16
    rows = [int(frame[0, 0, 0]) for frame in frames]
    assert len(set(rows)) > 4, "from all over the episodes"
    sheet = sheet_of(frames)
    assert sheet.shape[1] == 4 * 130 and sheet.shape[0] % 130 == 0
    np.testing.assert_array_equal(sheet[:128:8, 130:258:8], frames[1])
    assert (sheet[:130, 128:130] == 128).all() and (sheet[128:130, :130] == 128).all(), "lines between"

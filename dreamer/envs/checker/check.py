"""Plays an environment with random actions, and finds where it breaks what dreamer/envs/spec.py promises."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from dreamer.envs.checker.driver import Driver
from dreamer.envs.checker.findings import Findings
from dreamer.envs.checker.rows import check_spaces
from dreamer.envs.checker.seen import Report, Seen, judge
from dreamer.envs.drawing.images import side_by_side
from dreamer.envs.spec import Replayable
from dreamer.types import Space, TimeStep

MEMBERS = ("obs_space", "action_space", "env_steps_per_action", "reset", "step", "frame", "close")
NUM_EPISODES = 3  # at least, with random actions
NUM_COMPARED = 100  # policy steps of the episode that is played again with its seed
OTHERS = (1, 2, 3)  # episodes to compare it with
NUM_FRAMES = 16  # of the sheet
BEYOND = 1.5  # an action out of bounds, as the policy's normal distribution gives them
PIXEL_STEPS, PIXEL_SHARE = 16, 0.005  # of 255, and of all values: what OpenGL may draw otherwise the second time


def check_environment(env: Any, num_steps: int, seed: int) -> Report:
    """Play `env` for at least `num_steps` policy steps and three episodes, each cut off after as many.

    It is closed at last. Whatever it raises becomes a finding. `seed` decides episodes and actions.
    """
    findings, report = Findings(), Report([])
    if missing := [name for name in MEMBERS if not hasattr(env, name)]:
        findings.error(
            "members",
            f"the environment has no {', '.join(missing)}.",
            "dreamer/envs/spec.py: Env lists what an environment must have.",
        )
    else:
        check_spaces(env, findings)
    if findings.is_sound:
        driver = Driver(env, seed, findings)
        findings.attempt(_compare_episodes, driver, report)
        for action in _extreme_actions(env.action_space):
            findings.attempt(_try_action, driver, action)
        findings.attempt(_play, driver, num_steps, report)
        findings.attempt(driver.close)
        judge(env.obs_space, report, findings)
    report.findings = list(findings)
    return report


def _compare_episodes(driver: Driver, report: Report) -> None:
    """Whether the seed decides an episode, it alone, and whether `advance` leads to where `step` does."""
    actions = [driver.random_action() for _ in range(NUM_COMPARED)]
    first = _trace(driver, 0, actions)
    is_seed_used = any(_difference(first, _trace(driver, episode, actions)) for episode in OTHERS)
    again = _trace(driver, 0, actions)
    driver.findings.place = ""
    if difference := _difference(first, again):
        driver.findings.warning(
            "seed",
            f"the same seed and actions give another episode: {difference}.",
            "A resumed run cannot go on with its unfinished episode, and results cannot be repeated. All random "
            "numbers must come from a generator that reset(seed) makes.",
        )
        return
    if first[0].obs and not is_seed_used:
        driver.findings.note(
            "seeds",
            f"{len(OTHERS) + 1} seeds give the same episode, over {len(first) - 1} steps.",
            "Right where nothing is random; else reset(seed) does not use its seed.",
        )
    if isinstance(driver.env, Replayable):
        report.drawing = _try_advance(driver, first, actions)


def _trace(driver: Driver, episode: int, actions: list[np.ndarray]) -> list[TimeStep]:
    """Rows of an episode as far as `actions` lead, with observations that are as promised, and copied.

    Where the environment is Replayable, the last row holds its simulator's state as well.
    """
    row = driver.reset(episode)
    rows = [_copied(row, driver.obs)]
    for action in actions:
        if row.is_last:
            break
        row = driver.step(action)
        rows.append(_copied(row, driver.obs))
    if isinstance(driver.env, Replayable):
        rows[-1].obs["simulator_state()"] = np.array(driver.env.simulator_state())
    return rows


def _copied(row: TimeStep, obs: dict[str, np.ndarray]) -> TimeStep:
    return row._replace(obs={key: value.copy() for key, value in obs.items()})


def _difference(left: list[TimeStep], right: list[TimeStep]) -> str | None:
    """What differs first between two episodes; None if nothing does."""
    for t, (one, two) in enumerate(zip(left, right, strict=False)):
        for name in ("reward", "is_last", "is_terminal"):
            if getattr(one, name) != getattr(two, name):
                return f"{name} of row {t} is {getattr(one, name)} and {getattr(two, name)}"
        for key in one.obs:
            if key in two.obs and not _is_equal(one.obs[key], two.obs[key]):
                return f"{key} of row {t} differs"
    return None


def _is_equal(left: np.ndarray, right: np.ndarray) -> bool:
    if left.dtype == np.uint8 and left.ndim == 3:
        return bool((np.abs(left.astype(int) - right) > PIXEL_STEPS).mean() <= PIXEL_SHARE)
    return np.array_equal(left, right, equal_nan=left.dtype.kind == "f")


def _try_advance(driver: Driver, rows: list[TimeStep], actions: list[np.ndarray]) -> float | None:
    """The share of a step's time that `advance` saves: the episode of `rows` once more, with both in turn."""
    driver.reset(0)
    for index, (action, expected) in enumerate(zip(actions, rows[1:], strict=False)):
        row = driver.advance(action) if index % 2 else driver.step(action)
        if index % 2 and row[1:] != expected[1:]:
            driver.findings.warning(
                "advance",
                f"advance gives (reward, is_first, is_last, is_terminal) {row[1:]} where step gave {expected[1:]}.",
                "A resumed run replays its unfinished episode with advance, and would have to give it up.",
            )
    seconds = driver.seconds[len(driver.seconds) - len(rows) + 1 :]
    if len(seconds) < 2:
        return None
    return max(0.0, 1 - float(np.median(seconds[1::2]) / np.median(seconds[::2])))


def _extreme_actions(space: Space) -> Iterator[np.ndarray]:
    if space.is_discrete:
        yield np.zeros(space.shape, np.int32)
        yield np.array(space.classes, np.int32) - 1
        return
    for bound in (-1, 1, BEYOND):
        yield np.full(space.shape, bound, np.float32)


def _try_action(driver: Driver, action: np.ndarray) -> None:
    why = "Entry i of an action is from 0 to classes[i] - 1, both included."
    if not driver.env.action_space.is_discrete:
        why = (
            "All from -1 to 1 must be taken, and what is beyond, as the policy's normal distribution gives it, clipped."
        )
    driver.reset(0)
    driver.step(action, f"step refuses the action {action.tolist()}", why)


def _play(driver: Driver, num_steps: int, report: Report) -> None:
    """Episodes with random actions, for the numbers of the report; at last a step after the end."""
    start, film = len(driver.seconds), _Film(report.frames)
    number = 0
    while True:
        row = driver.reset(number)
        _watch(driver, film, report)
        length = 0
        while not row.is_last and length < num_steps:
            row, length = driver.step(driver.random_action()), length + 1
            report.num_steps += 1
            if driver.is_reward_sound:
                report.rewards.append(float(row.reward))
            _watch(driver, film, report)
        if row.is_last:
            report.lengths.append(length)
            report.num_terminal += bool(row.is_terminal)
        else:
            report.num_cut += 1
        number += 1
        report.steps_per_second = report.num_steps / max(sum(driver.seconds[start:]), 1e-9)
        if report.num_steps >= num_steps and number >= NUM_EPISODES:
            break
    if row.is_last:
        _step_after_end(driver)


def _watch(driver: Driver, film: _Film, report: Report) -> None:
    """Keep of the current row what the report tells: ranges, and a picture: what the agent sees, or else people."""
    for key, value in driver.obs.items():
        if key not in report.seen:
            report.seen[key] = Seen(math.inf, -math.inf, value.copy())
        report.seen[key].update(value)
    if not film.is_due():
        return
    frame = driver.frame()
    if keys := [key for key, space in driver.env.obs_space.items() if space.is_image]:
        is_whole = all(key in driver.obs for key in keys)  # an unsound picture is not among them
        frame = side_by_side([driver.obs[key] for key in keys]) if is_whole else None
    if frame is not None:
        film.frames.append(frame.copy())


class _Film:
    """Says which rows to take a picture of: at most NUM_FRAMES, evenly spaced, however many rows there will be."""

    def __init__(self, frames: list[np.ndarray]) -> None:
        self.frames = frames
        self._gap, self._num_rows = 1, 0

    def is_due(self) -> bool:
        if len(self.frames) == NUM_FRAMES:
            del self.frames[1::2]
            self._gap *= 2
        self._num_rows += 1
        return (self._num_rows - 1) % self._gap == 0


def _step_after_end(driver: Driver) -> None:
    driver.findings.place = ""
    try:
        row = driver.env.step(driver.random_action())
    except Exception:  # as it should be: only reset is allowed here
        return
    if not (isinstance(row, TimeStep) and row.is_last):
        driver.findings.warning(
            "after the end",
            "a step after the end is not refused, and the episode seems to go on.",
            "Nothing here takes such a step, but elsewhere the mistake would stay unseen. Raise an error until reset.",
        )

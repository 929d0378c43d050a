"""What is wrong with an environment of the user's before it becomes one of ours, which converts much in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np
from gymnasium import spaces

from dreamer.envs.checker.findings import Finding, Findings, Stop
from dreamer.envs.checker.rows import check_reward
from dreamer.envs.seeding import episode_seed, is_seeded, reset_seeded
from dreamer.envs.suites.custom import GYMNASIUM, FromDmEnv, has_all, to_space
from dreamer.envs.suites.gymnasium import Gymnasium, fault_of_reset, fault_of_step, kind_of

RAISES = "The lines below are the environment's own."


def check_raw(env: Any, num_steps: int, seed: int) -> list[Finding]:
    """Play `num_steps` random actions of an environment in the form of gymnasium.Env or dm_env.Environment."""
    findings = Findings()
    if not is_seeded(env):
        findings.warning(
            "seed",
            "it takes no seed: neither reset(seed=...) nor seed(...).",
            "No episode can be repeated: a resumed run cannot go on with its unfinished one.",
        )
    form = _Gymnasium if has_all(env, GYMNASIUM) else _DmEnv
    findings.attempt(_play, form(env, findings), num_steps, seed)
    return list(findings)


def raw_of(env: Any) -> Any | None:
    """The environment as its author wrote it, where `env` is an adapter around one."""
    if not isinstance(env, Gymnasium):
        return None
    return env.raw.env if isinstance(env.raw, FromDmEnv) else env.raw


def _play(raw: _Gymnasium | _DmEnv, num_steps: int, seed: int) -> None:
    raw.action_space.seed(seed)
    is_over, episode, length = True, -1, 0
    for _ in range(num_steps):
        if is_over:
            episode, length = episode + 1, 0
            raw.findings.place = f"episode {episode}, reset"
            raw.reset(episode_seed(seed, 0, episode))
        length += 1
        raw.findings.place = f"episode {episode}, step {length}"
        is_over = raw.step(raw.action_space.sample())


class _Gymnasium:
    """Checks what reset and step return against the contract of gymnasium.Env."""

    def __init__(self, env: Any, findings: Findings) -> None:
        self.env, self.findings = env, findings
        self.observation_space, self.action_space = env.observation_space, env.action_space

    def reset(self, seed: int) -> None:
        with self.findings.catching("reset raises", RAISES):
            result = reset_seeded(self.env, seed)
        if fault := fault_of_reset(result):
            self.findings.error(
                "reset returns",
                fault,
                "In gymnasium info is a dictionary, and may be empty: return observation, {}.",
            )
            raise Stop
        check_in(self.observation_space, result[0], "the observation", self.findings)

    def step(self, action: Any) -> bool:
        """Whether the episode is over."""
        with self.findings.catching("step raises", RAISES):
            result = self.env.step(action)
        if fault := fault_of_step(result):
            self.findings.error(
                "step returns",
                fault,
                "Old Gym returned four. Its `done` is now terminated, an end of the task, or truncated, a time limit.",
            )
            raise Stop
        observation, reward, terminated, truncated, info = result
        check_in(self.observation_space, observation, "the observation", self.findings)
        check_reward(reward, False, self.findings)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not isinstance(flag, bool | np.bool_):
                self.findings.warning(
                    name, f"{name} is {flag!r}, not True or False.", "It is taken as bool(...), which may not be meant."
                )
        if not isinstance(info, Mapping):
            self.findings.warning(
                "info", f"info is {kind_of(info)}.", "It should be a dictionary; here nothing reads it."
            )
        return bool(terminated or truncated)


class _DmEnv:
    """The same for dm_env.Environment."""

    def __init__(self, env: Any, findings: Findings) -> None:
        self.env, self.findings = env, findings
        self.observation_space = to_space(env.observation_spec(), "observation")
        self.action_space = to_space(env.action_spec(), "action")

    def reset(self, seed: int) -> None:
        with self.findings.catching("reset raises", RAISES):
            row = reset_seeded(self.env, seed)
        self._check(row, is_reset=True)

    def step(self, action: Any) -> bool:
        with self.findings.catching("step raises", RAISES):
            row = self.env.step(action)
        self._check(row, is_reset=False)
        check_reward(row.reward, False, self.findings)
        if row.discount is None or not 0 <= row.discount <= 1:
            self.findings.error(
                "discount",
                f"the discount is {row.discount}.",
                "It is 1 while the task goes on and at a time limit, 0 at an end of the task.",
            )
        return row.last()

    def _check(self, row: Any, is_reset: bool) -> None:
        call = "reset" if is_reset else "step"
        if not isinstance(row, dm_env.TimeStep):
            self.findings.error(
                "row",
                f"{call} returns {kind_of(row)}, not a dm_env.TimeStep.",
                "dm_env.restart, transition and so on make one.",
            )
            raise Stop
        if row.first() != is_reset:
            self.findings.error(
                f"first of {call}",
                f"{call} returns a row of step_type {row.step_type!r}.",
                "FIRST marks the row of a reset, and no other. It must not begin anew before the end was seen as LAST.",
            )
        check_in(self.observation_space, row.observation, "the observation", self.findings)


def check_in(space: Any, value: Any, name: str, findings: Findings) -> None:
    """Tell where a value, `name` in words, lies outside its space."""
    if isinstance(space, spaces.Dict):
        _check_dict(space, value, name, findings)
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, tuple | list) or len(value) != len(space.spaces):
            findings.error(
                name, f"{name} is {kind_of(value)}, not a tuple of {len(space.spaces)}.", "Its space promises a Tuple."
            )
            return
        for index, (part, item) in enumerate(zip(space.spaces, value, strict=True)):
            check_in(part, item, f"{name}[{index}]", findings)
    elif isinstance(space, spaces.Box):
        _check_box(space, value, name, findings)
    elif not space.contains(value):
        findings.error(f"{name} outside", f"{name} is {value!r}, outside {space}.", "Correct the value, or the space.")


def _check_dict(space: spaces.Dict, value: Any, name: str, findings: Findings) -> None:
    if not isinstance(value, Mapping):
        findings.error(name, f"{name} is {kind_of(value)}, not a dictionary.", "Its space promises a Dict.")
        return
    if missing := [key for key in space.spaces if key not in value]:
        findings.error(
            f"{name} missing",
            f"{name} lacks {', '.join(map(str, missing))}.",
            "Its space promises this key in every row, those of resets and of last steps included.",
        )
    if extra := [str(key) for key in value if key not in space.spaces]:
        findings.warning(
            f"{name} extra",
            f"{name} has {', '.join(extra)}, which its space does not promise.",
            "The agent will not see it. Add it to the space, or leave it out.",
        )
    for key, part in space.spaces.items():
        if key in value:
            check_in(part, value[key], f"{name}[{key!r}]", findings)


def _check_box(space: spaces.Box, value: Any, name: str, findings: Findings) -> None:
    try:
        array = np.asarray(value)
    except ValueError:  # lists of unequal lengths
        array = np.array(None)
    if array.dtype.kind not in "biuf":
        findings.error(
            f"{name} type", f"{name} is {kind_of(value)}, not an array of numbers.", "np.array(...) makes one."
        )
    elif array.shape != space.shape:
        findings.error(
            f"{name} shape",
            f"{name} has the shape {list(array.shape)}, but its space promises {list(space.shape)}.",
            "Rows are stored in arrays of one shape: pad or cut what varies, or correct the space.",
        )
    elif not np.isfinite(array).all():
        findings.error(
            f"{name} finite",
            f"{name} holds NaN or infinity.",
            "One such number makes every weight NaN. Look for a division by 0, or a sensor without a reading.",
        )
    elif not np.can_cast(array.dtype, space.dtype, "same_kind"):
        _tell_kind(space, array, name, findings)
    else:
        _check_bounds(space, array, name, findings)
        if array.dtype != space.dtype:
            findings.note(
                f"{name} dtype",
                f"{name} is {array.dtype}, but its space promises {space.dtype}.",
                "It is converted. Give it in that type, so that others can rely on it too.",
            )


def _tell_kind(space: spaces.Box, array: np.ndarray, name: str, findings: Findings) -> None:
    why = f"Converting it to {space.dtype} would change it. Give it in that type, or correct the space."
    if space.dtype == np.uint8 and array.dtype.kind == "f" and array.max(initial=0) <= 1:
        why = "A picture from 0 to 1 becomes black as uint8. Give (255 * picture).astype(np.uint8)."
    findings.error(f"{name} dtype", f"{name} is {array.dtype}, but its space promises {space.dtype}.", why)


def _check_bounds(space: spaces.Box, array: np.ndarray, name: str, findings: Findings) -> None:
    outside = np.argwhere((array < space.low) | (array > space.high))
    if len(outside):
        place = tuple(int(index) for index in outside[0])
        findings.error(
            f"{name} outside",
            f"{name} is outside its space: entry {list(place)} is {array[place]:g}, the bounds are "
            f"{space.low[place]:g} and {space.high[place]:g}.",
            "Whatever scales by these bounds goes wrong. Clip the value, or widen the space.",
        )

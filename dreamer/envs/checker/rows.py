"""What is wrong with a single row of an environment, or with its spaces. Each check tells it to the findings given."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from dreamer.envs.checker.findings import Findings
from dreamer.envs.drawing.images import has_the_shape_of_a_picture
from dreamer.types import Space, TimeStep


def check_spaces(env: Any, findings: Findings) -> None:
    """obs_space, action_space and env_steps_per_action; with an error in them, no episode can be checked."""
    obs_space, action_space, repeat = env.obs_space, env.action_space, env.env_steps_per_action
    if not isinstance(obs_space, Mapping) or not obs_space:
        findings.error("obs_space", f"obs_space is {obs_space!r}.", "It must be a dictionary, key -> Space, not empty.")
    else:
        for key, space in obs_space.items():
            _check_observation_space(key, space, findings)
        _check_sizes(obs_space, findings)
    if not isinstance(action_space, Space) or len(action_space.shape) != 1 or action_space.dtype == "uint8":
        findings.error(
            "action_space",
            f"action_space is {action_space!r}.",
            'It must be Space((A,), "float32"), or Space((n,), "int32", classes) for n choices.',
        )
    if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
        findings.error(
            "repeat", f"env_steps_per_action is {repeat!r}.", "It counts simulator steps per `step`: a whole number."
        )


def _check_observation_space(key: str, space: Any, findings: Findings) -> None:
    if not isinstance(space, Space):
        findings.error(f"{key} space", f"obs_space[{key!r}] is {space!r}.", "It must be a Space of dreamer/types.py.")
    elif space.dtype == "uint8" and not space.is_image:
        findings.error(
            f"{key} space",
            f"obs_space[{key!r}] is uint8 {list(space.shape)}, which is no picture.",
            "uint8 stands for pictures [h w c]; give numbers as float32 and choices as int32.",
        )
    elif space.dtype == "float32" and has_the_shape_of_a_picture(space.shape):
        findings.warning(
            f"{key} space",
            f"observation {key} has the shape of a picture, {list(space.shape)}, but is float32.",
            f"It goes to the network for vectors, as {space.size:,} separate numbers. If it is a picture, give it as "
            "uint8 from 0 to 255.",
        )


def _check_sizes(obs_space: Mapping[str, Any], findings: Findings) -> None:
    sizes = {key: space.shape[:2] for key, space in obs_space.items() if isinstance(space, Space) and space.is_image}
    if len(set(sizes.values())) > 1:
        told = ", ".join(f"{key} {height} x {width}" for key, (height, width) in sizes.items())
        findings.error(
            "sizes",
            f"pictures differ in size: {told}.",
            "The encoder stacks them on their channels: resize them to one.",
        )


def check_row(
    row: TimeStep, obs_space: Mapping[str, Space], is_reset: bool, findings: Findings
) -> dict[str, np.ndarray]:
    """The observations of a row that are as promised; what is wrong with others, and with the flags, is told."""
    _check_flags(row, is_reset, findings)
    if not isinstance(row.obs, Mapping):
        findings.error(
            "obs",
            f"the observation is a {type(row.obs).__name__}.",
            "It must be a dictionary with the keys of obs_space.",
        )
        return {}
    _check_keys(row.obs, obs_space, findings)
    shared = [key for key in obs_space if key in row.obs]
    return {key: row.obs[key] for key in shared if _check_value(key, row.obs[key], obs_space[key], findings)}


def _check_keys(obs: Mapping[str, Any], obs_space: Mapping[str, Space], findings: Findings) -> None:
    if missing := [key for key in obs_space if key not in obs]:
        findings.error(
            "missing keys",
            f"the observation lacks {', '.join(missing)}.",
            "obs_space promises this key in every row, those of resets and of last steps included.",
        )
    if extra := [str(key) for key in obs if key not in obs_space]:
        findings.error(
            "extra keys",
            f"the observation has {', '.join(extra)}, which obs_space does not promise.",
            "Replay has no column for it. Add it to obs_space, or leave it out.",
        )


def _check_value(key: str, value: Any, space: Space, findings: Findings) -> bool:
    """Whether an observation is an array of the type and shape promised, with numbers that a network can take."""
    if not isinstance(value, np.ndarray):
        findings.error(
            f"{key} type",
            f"observation {key} is a {type(value).__name__}.",
            "It must be a NumPy array; np.asarray helps.",
        )
    elif str(value.dtype) != space.dtype:
        _tell_dtype(key, value, space, findings)
    elif value.shape != space.shape:
        findings.error(
            f"{key} shape",
            f"observation {key} has the shape {list(value.shape)}, but obs_space promises {list(space.shape)}.",
            "Rows are stored in arrays of one shape: pad or cut what varies, or correct obs_space.",
        )
    elif not np.isfinite(value).all():
        findings.error(
            f"{key} finite",
            f"observation {key} holds NaN or infinity.",
            "One such number makes every weight NaN. Look for a division by 0, or a sensor without a reading.",
        )
    elif space.is_discrete and not ((value >= 0) & (value < np.array(space.classes))).all():
        findings.error(
            f"{key} classes",
            f"observation {key} is {value.tolist()}, outside its {list(space.classes)} classes.",
            "Entry i must be from 0 to classes[i] - 1.",
        )
    else:
        return True
    return False


def _tell_dtype(key: str, value: np.ndarray, space: Space, findings: Findings) -> None:
    why = f"Replay would convert it without a word, while the policy sees it as it is. Add .astype(np.{space.dtype})."
    if space.is_image and value.dtype.kind == "f" and value.size and np.nanmax(value) <= 1:
        why = "A picture from 0 to 1 would be stored as black. Give (255 * picture).astype(np.uint8)."
    findings.error(f"{key} dtype", f"observation {key} is {value.dtype}, but obs_space promises {space.dtype}.", why)


def check_reward(reward: Any, is_reset: bool, findings: Findings) -> bool:
    """Whether a reward is a finite number, and 0 in the row of a reset."""
    if isinstance(reward, bool | np.bool_) or not isinstance(reward, numbers.Real):
        shape = f" of shape {list(reward.shape)}" if isinstance(reward, np.ndarray) else ""
        findings.error(
            "reward type",
            f"the reward is a {type(reward).__name__}{shape}.",
            "It must be one number; float(...) helps.",
        )
    elif not math.isfinite(reward):
        findings.error(
            "reward finite",
            f"the reward is {reward}.",
            "One such number makes every weight NaN. Look for a division by 0, or limit it.",
        )
    elif is_reset and reward != 0:
        findings.error(
            "reward of reset",
            f"the first row has the reward {float(reward):g}.",
            "A reward comes with the row that an action led to; before the first action there is none. Return 0.",
        )
    else:
        return True
    return False


def check_frame(frame: Any, findings: Findings) -> bool:
    """Whether a frame is a picture that a video can show."""
    if isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[2] == 3:
        return True
    is_array = isinstance(frame, np.ndarray)
    found = f"{frame.dtype} {list(frame.shape)}" if is_array else type(frame).__name__
    findings.error(
        "frame", f"frame() returns {found}.", "Videos need uint8 [h w 3], or None where there is no picture."
    )
    return False


def _check_flags(row: TimeStep, is_reset: bool, findings: Findings) -> None:
    for name in ("is_first", "is_last", "is_terminal"):
        if not isinstance(flag := getattr(row, name), bool | np.bool_):
            findings.error(f"{name} type", f"{name} is {flag!r}.", "It must be True or False; bool(...) helps.")
    if is_reset and not row.is_first:
        findings.error(
            "is_first of reset",
            "reset returns a row without is_first.",
            "The recurrent state would be carried from the episode before into this one.",
        )
    if not is_reset and row.is_first:
        findings.error(
            "is_first of step",
            "step returns a row with is_first.",
            "The recurrent state would be cleared there. An environment that begins anew by itself must end its "
            "episode with is_last and wait for reset.",
        )
    if row.is_terminal and not row.is_last:
        findings.error(
            "is_terminal",
            "a row has is_terminal but not is_last.",
            "The agent would learn that all ends there, while the episode goes on.",
        )
    if is_reset and row.is_last:
        findings.error(
            "is_last of reset", "an episode ends with its first row.", "There must be one step to learn from."
        )

"""A report as lines of text, and its pictures as one sheet."""

from __future__ import annotations

from collections import Counter

import numpy as np

from dreamer.envs.checker.findings import LEVELS, Finding
from dreamer.envs.checker.seen import Report, Seen
from dreamer.envs.spec import Env
from dreamer.types import Space

COLUMNS = 4  # of the sheet
SMALLEST = 128  # pixels: smaller pictures are enlarged
LINE, GREY = 2, 128  # pixels between two pictures, and their value


def describe(env: Env, report: Report) -> dict[str, str]:
    """A line for each observation, the action, rewards, episodes and speed, as far as they were seen."""
    lines = {f"obs.{key}": _observation(space, report.seen.get(key)) for key, space in env.obs_space.items()}
    lines["action"] = _shape(env.action_space) + ("" if env.action_space.is_discrete else " in [-1, 1]")
    if report.rewards:
        lines["reward"] = _rewards(report.rewards)
    if report.lengths or report.num_cut:
        lines["episodes"] = _episodes(report)
    if report.steps_per_second:
        lines["speed"] = _speed(env, report)
    return lines


def aligned(lines: dict[str, str]) -> str:
    width = max(len(name) for name in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines.items())


def summary(findings: list[Finding]) -> str:
    """`1 error, 0 warnings, 2 notes`."""
    counts = Counter(finding.level for finding in findings)
    return ", ".join(f"{counts[level]} {level}{'' if counts[level] == 1 else 's'}" for level in LEVELS)


def sheet_of(frames: list[np.ndarray]) -> np.ndarray:
    """Pictures uint8 [h w 3] of one size, four a row with grey lines between; what is missing at the end is grey."""
    scale = -(-SMALLEST // min(frames[0].shape[:2]))
    edge = ((0, LINE), (0, LINE), (0, 0))
    frames = [np.pad(frame.repeat(scale, 0).repeat(scale, 1), edge, constant_values=GREY) for frame in frames]
    frames += [np.full_like(frames[0], GREY)] * (-len(frames) % COLUMNS)
    return np.concatenate([np.concatenate(frames[i : i + COLUMNS], axis=1) for i in range(0, len(frames), COLUMNS)])


def _shape(space: Space) -> str:
    shape = f"{space.dtype} [{' '.join(str(size) for size in space.shape)}]"
    return f"{shape}, one of {' x '.join(str(n) for n in space.classes)}" if space.is_discrete else shape


def _observation(space: Space, seen: Seen | None) -> str:
    if seen is None:
        return _shape(space)
    promised = {"uint8": " of 0 to 255", "int32": f" of 0 to {max(space.classes, default=1) - 1}"}
    return f"{_shape(space)}; seen {seen.low:.4g} to {seen.high:.4g}{promised.get(space.dtype, '')}"


def _rewards(rewards: list[float]) -> str:
    share = np.count_nonzero(rewards) / len(rewards)
    span = f"{min(rewards):.4g} to {max(rewards):.4g}, mean {np.mean(rewards):.4g}"
    return f"{span}; not 0 in {share:.1%} of {len(rewards):,} steps"


def _episodes(report: Report) -> str:
    parts = []
    if report.lengths:
        low, high, num_limits = min(report.lengths), max(report.lengths), len(report.lengths) - report.num_terminal
        parts.append(
            f"{len(report.lengths)} ended, after {low if low == high else f'{low} to {high}'} policy steps: "
            f"{report.num_terminal} truly, {num_limits} at a time limit"
        )
    if report.num_cut:
        parts.append(f"{report.num_cut} cut off")
    return "; ".join(parts)


def _speed(env: Env, report: Report) -> str:
    assert report.steps_per_second is not None
    text = f"{report.steps_per_second:,.0f} policy steps/s"
    if env.env_steps_per_action > 1:
        text += f" ({report.steps_per_second * env.env_steps_per_action:,.0f} environment steps/s)"
    if report.drawing is not None and any(space.is_image for space in env.obs_space.values()):
        text += f"; pictures take {report.drawing:.0%} of the time"
    return text

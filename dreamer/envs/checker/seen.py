"""What a check saw, and what of it shows only in many rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dreamer.envs.checker.findings import ERROR, Finding, Findings
from dreamer.types import Space

HUGE = 1e4  # of a vector's entries


@dataclass
class Seen:
    """The values of one observation key, over all rows."""

    low: float
    high: float
    first: np.ndarray
    is_constant: bool = True

    def update(self, value: np.ndarray) -> None:
        if value.size:
            self.low, self.high = min(self.low, float(value.min())), max(self.high, float(value.max()))
        self.is_constant = self.is_constant and np.array_equal(value, self.first)


@dataclass
class Report:
    """What `check` saw.

    Of the random episodes: values of each key, rewards, num_steps (policy steps), lengths (likewise) of the episodes
    that ended, num_terminal of them truly, and num_cut that did not end.
    steps_per_second: policy steps, resets included; drawing: share of a step's time that `advance` saves, 0 to 1
    frames: pictures uint8 [h w 3] from all over the episodes
    """

    findings: list[Finding]
    seen: dict[str, Seen] = field(default_factory=dict)
    rewards: list[float] = field(default_factory=list)
    num_steps: int = 0
    lengths: list[int] = field(default_factory=list)
    num_terminal: int = 0
    num_cut: int = 0
    steps_per_second: float | None = None
    drawing: float | None = None
    frames: list[np.ndarray] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        return all(finding.level != ERROR for finding in self.findings)


def judge(obs_space: Mapping[str, Space], report: Report, findings: Findings) -> None:
    """What shows only in many rows."""
    for key, seen in report.seen.items():
        _judge_key(key, obs_space[key], seen, findings)
    if report.num_cut:
        findings.note(
            "no end",
            f"{report.num_cut} of {report.num_cut + len(report.lengths)} episodes did not end within the limit.",
            "Right where a task goes on for ever or is long; returns and evaluations come with ends only. steps=... "
            "plays on for longer.",
        )
    if report.rewards and not any(report.rewards):
        findings.note(
            "no reward",
            f"random actions met no reward in {report.num_steps} steps.",
            "Right where rewards are rare; it takes long to learn such a task.",
        )


def _judge_key(key: str, space: Space, seen: Seen, findings: Findings) -> None:
    if space.is_image and seen.high <= 1 and not (seen.is_constant and seen.high == 0):
        findings.warning(
            f"{key} dark",
            f"observation {key} holds no value but 0 and 1, of 255.",
            "A picture from 0 to 1 that was converted to uint8 is black. Multiply it by 255 first.",
        )
    elif seen.is_constant:
        findings.note(
            f"{key} constant",
            f"observation {key} is the same in every row.",
            "Nothing can be learned from it. A sensor that is not read, or a camera that looks away?",
        )
    if space.dtype == "float32" and max(-seen.low, seen.high) > HUGE:
        findings.note(
            f"{key} huge",
            f"observation {key} reaches {seen.low:.4g} to {seen.high:.4g}.",
            "Networks see its symlog, in which large values lie close together: 1e4 and 1.1e4 differ by 0.1. Scale it, "
            "or leave out what does not matter.",
        )

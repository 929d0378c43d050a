"""How fast a run is, and how long it will take."""

from __future__ import annotations

import math
import time
from collections import deque

from dreamer.config.schema import Config


class Speed:
    """Environment steps and updates per second over about the last `seconds`."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self.marks: deque[tuple[float, int, int]] = deque()
        self.update_share = 1.0  # of that time, as far as it was measured

    def mark(self, env_steps: int, updates: int) -> None:
        now = time.monotonic()
        if self.marks and now - self.marks[-1][0] < self.seconds / 200:
            return
        self.marks.append((now, env_steps, updates))
        while now - self.marks[0][0] > self.seconds and len(self.marks) > 2:
            self.marks.popleft()

    def forget(self) -> None:
        """Leave out what comes between here and the next mark (an evaluation, say)."""
        self.marks.clear()

    @property
    def env_steps(self) -> float:
        return self._rate(1)

    @property
    def updates(self) -> float:
        return self._rate(2)

    def _rate(self, column: int) -> float:
        if len(self.marks) < 2:
            return 0.0
        (start, *first), (end, *last) = self.marks[0], self.marks[-1]
        return (last[column - 1] - first[column - 1]) / max(end - start, 1e-9)


class Share:
    """Share of the wall time that lies between `begin` and `end`, from the first `begin` or the last `take` on."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.began = self.inside = 0.0

    def begin(self) -> None:
        self.began = time.monotonic()
        if self.since is None:
            self.since = self.began

    def end(self) -> None:
        self.inside += time.monotonic() - self.began

    def take(self) -> float:
        """The share, from 0 to 1; counting starts anew."""
        now = time.monotonic()
        assert self.since is not None, "begin comes first"
        share = self.inside / max(now - self.since, 1e-9)
        self.since, self.inside = now, 0.0
        return share


def hours_left(config: Config, env_steps: int, speed: Speed) -> float:
    """Until trainer.max_steps at the present speed; infinite while there are no updates to tell it from.

    Where the train ratio is still that of the first steps, updates will take more of the time.
    """
    if speed.updates == 0 or speed.env_steps == 0:
        return math.inf
    trainer = config.trainer
    left = max(trainer.max_steps - env_steps, 0)
    later = min(left, max(trainer.max_steps - trainer.early_steps * config.env.action_repeat, 0))
    growth = trainer.train_ratio / trainer.ratio_at(0) - 1 if later < left else 0.0
    return (left + later * growth * speed.update_share) / speed.env_steps / 3600


def duration(hours: float) -> str:
    if math.isinf(hours):
        return "?"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"

"""Progress on the screen: a bar in a terminal, lines on a pipe."""

from __future__ import annotations

import math
import sys
import time
from typing import Protocol

from tqdm import tqdm

from dreamer.config.schema import Config
from dreamer.training.display.speeds import Speed, duration, hours_left
from dreamer.training.display.terminal import CYAN, DIM, Returns, can_draw, painted, width

LEAST_BAR = 8  # letters


class Progress(Protocol):
    def show(self, env_steps: int, updates: int, speed: Speed, returns: Returns) -> None: ...
    def tell(self, line: str) -> None: ...
    def close(self, env_steps: int, updates: int, returns: Returns) -> None: ...


class Bar:
    """A bar in environment steps, for a terminal: as many of its words as the width has room for.

    ` 37% ████      370k/1M  ▁▂▃▅▆ 823  61 steps/s  4.2 updates/s  2.9 h left`
    """

    def __init__(self, config: Config, seconds: float = 0.25) -> None:
        self.config, self.seconds = config, seconds
        self.next = 0.0
        self.bar: tqdm | None = None

    def show(self, env_steps: int, updates: int, speed: Speed, returns: Returns) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.seconds
        self.draw(env_steps, self.words(env_steps, updates, speed, returns))

    def draw(self, env_steps: int, words: str) -> None:
        if self.bar is None:
            form = "{percentage:3.0f}% {bar} {desc}"
            total = int(self.config.trainer.max_steps)
            self.bar = tqdm(total=total, bar_format=form, file=sys.stderr, delay=1e-9)  # not before it has words
        self.bar.n, self.bar.ncols = min(env_steps, self.bar.total), width(sys.stderr) - 1
        self.bar.set_description_str(words, refresh=True)

    def words(self, env_steps: int, updates: int, speed: Speed, returns: Returns) -> str:
        """What stands behind the bar. What matters least goes first where there is no room for all."""
        parts = self.known(env_steps, returns)
        if updates == 0:
            parts["left"] = "random actions"
        else:
            parts |= {
                "speed": f"{speed.env_steps:.3g} steps/s",
                "updates": f"{speed.updates:.3g} updates/s",
                "left": f"{duration(hours_left(self.config, env_steps, speed))} left",
            }
        for shorter in ("line", "updates", "speed", "steps", "line", "return"):
            if len("100%  ") + LEAST_BAR + len(joined(parts)) < width(sys.stderr):
                break
            parts[shorter] = returns.sparkline(6) if shorter == "line" and len(parts["line"]) > 6 else ""
        return joined(parts, {"line": CYAN, "speed": DIM, "updates": DIM})

    def known(self, env_steps: int, returns: Returns) -> dict[str, str]:
        return {
            "steps": f"{short(env_steps)}/{short(self.config.trainer.max_steps)}",
            "line": returns.sparkline(12) if can_draw(sys.stderr) else "",
            "return": "" if returns.last is None else f"{returns.last:.4g}",
        }

    def tell(self, line: str) -> None:
        tqdm.write(line)

    def close(self, env_steps: int, updates: int, returns: Returns) -> None:
        self.draw(env_steps, joined(self.known(env_steps, returns), {"line": CYAN}))
        if self.bar is not None:
            self.bar.close()


class Lines:
    """One line a minute, for a pipe or a file; the first as soon as updates have a speed, the last at the end."""

    def __init__(self, config: Config, seconds: float = 60.0) -> None:
        self.config, self.seconds = config, seconds
        self.next = time.monotonic() + min(seconds, 20.0)

    def show(self, env_steps: int, updates: int, speed: Speed, returns: Returns) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.seconds
        self.print_line(env_steps, updates, summary(self.config, env_steps, updates, speed, returns.last))

    def tell(self, line: str) -> None:
        print(line, flush=True)

    def close(self, env_steps: int, updates: int, returns: Returns) -> None:
        self.print_line(env_steps, updates, shown(returns.last))

    def print_line(self, env_steps: int, updates: int, end: str) -> None:
        share = env_steps / self.config.trainer.max_steps
        of = f"{env_steps:,} of {self.config.trainer.max_steps:,} env steps ({share:.1%})"
        print(f"{of}, {updates:,} updates, {end}", flush=True)


def joined(parts: dict[str, str], colors: dict[str, str] | None = None) -> str:
    """The parts that there are with two spaces between them, but one behind a sparkline, which the return ends."""
    text = ""
    for key, part in parts.items():
        if part:
            color = (colors or {}).get(key)
            text += f"{painted(part, color, sys.stderr) if color else part}{' ' if key == 'line' else '  '}"
    return text.rstrip()


def short(steps: int | float) -> str:
    """1,200 as 1200, 371,000 as 371k, 1,000,000 as 1M."""
    for unit, letter in ((1e6, "M"), (1e4, "k")):
        if steps >= unit:
            value = steps / (1e3 if letter == "k" else unit)
            return f"{math.floor(value * 10) / 10 if value < 100 else math.floor(value):.4g}{letter}"
    return f"{steps:.0f}"


def summary(config: Config, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> str:
    if updates == 0:
        return f"{shown(last_return)}, random actions until the first update"
    left = duration(hours_left(config, env_steps, speed))
    return f"{shown(last_return)}, {speed.env_steps:.3g} env steps/s, {speed.updates:.2f} updates/s, {left} left"


def shown(last_return: float | None) -> str:
    return "no return yet" if last_return is None else f"last return {last_return:.1f}"

"""Progress on the screen: a bar in a terminal, lines on a pipe."""

from __future__ import annotations

import time
from typing import Protocol

from tqdm import tqdm

from dreamer.config.schema import Config
from dreamer.training.display.speeds import Speed, duration, hours_left


class Progress(Protocol):
    def show(self, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> None: ...
    def tell(self, line: str) -> None: ...
    def close(self, env_steps: int, updates: int, last_return: float | None) -> None: ...


class Bar:
    """A bar in environment steps, for a terminal."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.bar: tqdm | None = None

    def show(self, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> None:
        if self.bar is None:
            form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} env steps{postfix}"
            self.bar = tqdm(total=int(self.config.trainer.max_steps), bar_format=form, unit_scale=True, mininterval=0.5)
        self.bar.n = min(env_steps, self.bar.total)
        self.bar.set_postfix_str(summary(self.config, env_steps, updates, speed, last_return), refresh=False)
        self.bar.update(0)

    def tell(self, line: str) -> None:
        tqdm.write(line)

    def close(self, env_steps: int, updates: int, last_return: float | None) -> None:
        if self.bar is not None:
            self.bar.refresh()
            self.bar.close()


class Lines:
    """One line a minute, for a pipe or a file; the first as soon as updates have a speed, the last at the end."""

    def __init__(self, config: Config, seconds: float = 60.0) -> None:
        self.config, self.seconds = config, seconds
        self.next = time.monotonic() + min(seconds, 20.0)

    def show(self, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.seconds
        self.print_line(env_steps, updates, summary(self.config, env_steps, updates, speed, last_return))

    def tell(self, line: str) -> None:
        print(line, flush=True)

    def close(self, env_steps: int, updates: int, last_return: float | None) -> None:
        self.print_line(env_steps, updates, shown(last_return))

    def print_line(self, env_steps: int, updates: int, end: str) -> None:
        share = env_steps / self.config.trainer.max_steps
        of = f"{env_steps:,} of {self.config.trainer.max_steps:,} env steps ({share:.1%})"
        print(f"{of}, {updates:,} updates, {end}", flush=True)


def summary(config: Config, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> str:
    if updates == 0:
        return f"{shown(last_return)}, random actions until the first update"
    left = duration(hours_left(config, env_steps, speed))
    return f"{shown(last_return)}, {speed.env_steps:.3g} env steps/s, {speed.updates:.2f} updates/s, {left} left"


def shown(last_return: float | None) -> str:
    return "no return yet" if last_return is None else f"last return {last_return:.1f}"

"""A sweep in the process that was started by hand: how it is stopped, and how its jobs hear of that."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dreamer.sweep.plan import Planned

STOP_FILE = ".stop"  # in the directory of the sweep: the starts of it whose jobs shall end
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def is_stopped(sweep_dir: Path, start: str) -> bool:
    try:
        return start in (sweep_dir / STOP_FILE).read_text(encoding="utf-8").split()
    except OSError:
        return False


def ask_to_stop(sweep_dir: Path, start: str) -> None:
    """On whatever machine a job of this start runs, it looks at this file. Jobs of later starts do not mind."""
    with (sweep_dir / STOP_FILE).open("a", encoding="utf-8") as file:
        file.write(f"{start}\n")


@dataclass
class Begun:
    """A sweep as the process has it that was started by hand; `planned` is empty for a search."""

    directory: Path
    start: str
    planned: list[Planned]
    is_search: bool
    previous: dict[int, Any] = field(default_factory=dict)

    @property
    def is_stopped(self) -> bool:
        return is_stopped(self.directory, self.start)

    def listen(self) -> None:
        """From here to `restore` the first signal lets the jobs save and stop; a second one ends the wait for them."""
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self.previous[number] = signal.signal(number, self.handle)

    def handle(self, number: int, frame: Any) -> None:
        self.restore()
        ask_to_stop(self.directory, self.start)
        name = signal.Signals(number).name
        text = f"\n{name}: the running jobs save and stop, no other begins (again to stop waiting for them).\n"
        os.write(2, text.encode())

    def restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

"""What a check of an environment found, in plain words: what is wrong, where, and how to mend it."""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

ERROR, WARNING, NOTE = LEVELS = ("error", "warning", "note")
"""It cannot be trained on, or would learn something else; something is lost with it; worth a look, may be as meant."""
WIDTH = 100  # of an explanation as it is printed


@dataclass
class Finding:
    """One fault, however often it occurs.

    what: in a sentence; place: of the first occurrence, empty where it belongs to none; why: why it matters, and what
    to do; trace: of an exception, the lines of the environment's own code
    """

    level: str
    what: str
    why: str
    place: str = ""
    times: int = 1
    trace: str = ""

    def __str__(self) -> str:
        often = f", and {self.times - 1:,} times more" if self.times > 1 else ""
        what = f"{self.what.removesuffix('.')} ({self.place}{often})" if self.place else self.what
        lines = [*textwrap.wrap(self.why, WIDTH), *self.trace.splitlines()]
        return "\n".join([f"{self.level:8} {what}", *(f"{'':8} {line}" for line in lines)])


class Stop(Exception):
    """What comes next needs what just failed."""


class Findings:
    """Collects findings, of each topic the first: a fault of every row is told once, with a count."""

    def __init__(self) -> None:
        self._by_topic: dict[str, Finding] = {}
        self.place = ""  # where the check stands

    def error(self, topic: str, what: str, why: str) -> None:
        self._add(topic, Finding(ERROR, what, why, self.place))

    def warning(self, topic: str, what: str, why: str) -> None:
        self._add(topic, Finding(WARNING, what, why, self.place))

    def note(self, topic: str, what: str, why: str) -> None:
        self._add(topic, Finding(NOTE, what, why, self.place))

    def __iter__(self) -> Iterator[Finding]:
        """Errors first, then warnings and notes, each in the order in which they were found."""
        return iter(sorted(self._by_topic.values(), key=lambda finding: LEVELS.index(finding.level)))

    @property
    def is_sound(self) -> bool:
        return all(finding.level != ERROR for finding in self)

    @contextmanager
    def catching(self, what: str, why: str) -> Iterator[None]:
        """An exception in here becomes the error `what`, with the environment's own traceback, and a Stop."""
        try:
            yield
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[2:]  # without the two that are ours
            lines = [*traceback.format_list(frames), *traceback.format_exception_only(error)]
            told = f"{what}: {type(error).__name__}: {str(error).strip() or 'without a message'}".splitlines()[0]
            last = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else what
            self._add(
                f"exception {type(error).__name__} {last}",
                Finding(ERROR, told, why, self.place, trace="".join(lines)),
            )
            raise Stop from error

    def _add(self, topic: str, finding: Finding) -> None:
        if topic in self._by_topic:
            self._by_topic[topic].times += 1
        else:
            self._by_topic[topic] = finding

    def attempt(self, stage: Callable[..., Any], *args: Any) -> None:
        """Run one part of a check as far as it gets; what stopped it has been told."""
        try:
            stage(*args)
        except Stop:
            pass
        finally:
            self.place = ""

"""What a terminal can show: its width, letters and colours. NO_COLOR (https://no-color.org) is respected."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol, runtime_checkable

BARS = "▁▂▃▄▅▆▇█"
MOST_RETURNS = 512
DIM, CYAN = "2", "36"


@runtime_checkable
class Stream(Protocol):
    """What of standard output and error is asked for here."""

    @property
    def encoding(self) -> str: ...
    def isatty(self) -> bool: ...
    def fileno(self) -> int: ...


def size(stream: Stream) -> tuple[int, int]:
    """Columns and lines of the terminal behind a stream; what the environment says, or 80 x 24, where it has none."""
    try:
        columns, lines = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        columns = lines = 0
    other = shutil.get_terminal_size()
    return max(columns or other.columns, 20), max(lines or other.lines, 10)


def width(stream: Stream) -> int:
    return size(stream)[0]


def has_colors(stream: Stream) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def can_draw(stream: Stream) -> bool:
    """Whether the letters of a sparkline can be written there."""
    try:
        BARS.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def painted(text: str, code: str, stream: Stream) -> str:
    return f"\033[{code}m{text}\033[0m" if has_colors(stream) else text


def hanging(key: str, text: str, columns: int, indent: int) -> list[str]:
    """`key` and `text` in lines of at most `columns` letters, the text beginning at `indent` in each."""
    room = max(columns - indent, 12)
    first, *rest = textwrap.wrap(text, room, break_on_hyphens=False) or [""]
    return [f"{key:<{indent}}{first}", *(" " * indent + line for line in rest)]


class Returns:
    """Returns of training episodes over the whole run, in little memory: the last one, and means of neighbours."""

    def __init__(self) -> None:
        self.last: float | None = None
        self.means: list[float] = []
        self.each = 1  # episodes in one of the means
        self.pending: list[float] = []

    def add(self, ret: float) -> None:
        self.last = ret
        self.pending.append(ret)
        if len(self.pending) == self.each:
            self.means.append(sum(self.pending) / self.each)
            self.pending = []
        if len(self.means) == MOST_RETURNS:
            self.means = [(one + other) / 2 for one, other in zip(self.means[::2], self.means[1::2], strict=True)]
            self.each *= 2

    def sparkline(self, most: int) -> str:
        """At most `most` bars, each the mean of its share of the episodes; from the lowest to the highest of them."""
        values = self.means + ([sum(self.pending) / len(self.pending)] if self.pending else [])
        return sparkline(values, most)


def sparkline(values: Sequence[float], most: int) -> str:
    """`▁▄█`: at most `most` bars, each the mean of its share of the values; a constant is a line in the middle."""
    count = min(len(values), most)
    ends = [len(values) * index // count for index in range(count + 1)] if count else [0]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(ends)]
    if not means:
        return ""
    low, high = min(means), max(means)
    if high == low:
        return BARS[3] * count
    return "".join(BARS[min(int((mean - low) / (high - low) * len(BARS)), len(BARS) - 1)] for mean in means)

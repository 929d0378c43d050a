"""What a hyperparameter may be: a range, or a list of words, that stands beside its field and is checked by its key."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator
from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Bounds:
    """The values a field takes; of a list, the values of each entry."""

    low: int | float = -math.inf
    high: int | float = math.inf
    above: int | float = -math.inf
    below: int | float = math.inf
    is_whole: bool = False
    is_odd: bool = False

    def holds(self, value: int | float) -> bool:
        return (
            math.isfinite(value)
            and self.low <= value <= self.high
            and self.above < value < self.below
            and (not self.is_whole or float(value).is_integer())
            and (not self.is_odd or value % 2 == 1)
        )

    def __str__(self) -> str:
        ends = {"at least": self.low, "above": self.above, "at most": self.high, "below": self.below}
        limits = " and ".join(f"{word} {end}" for word, end in ends.items() if math.isfinite(end))
        return ("odd and " if self.is_odd else "a whole number, " if self.is_whole else "") + limits


def bounded(default: Any, **bounds: Any) -> Any:
    """A dataclass field whose value must lie within Bounds(**bounds)."""
    metadata = {"bounds": Bounds(**bounds)}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def one_of(default: str, *words: str) -> Any:
    """A dataclass field that holds the default or another of these words."""
    return field(default=default, metadata={"words": (default, *words)})


ALSO_SAID = {
    "gpu": "cuda",
    "metal": "mps",
    "fp32": "float32",
    "pixels": "vision",
    "state": "proprio",
}
"""What people say for a word of some key."""

KEYWORDS = {"import_": "import", "class_": "class"}
"""Field -> what the user types, where Python keeps that word for itself."""


def typed(name: str) -> str:
    """The key of a field, as the user types it."""
    return KEYWORDS.get(name, name)


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any], Any]]:
    """(dotted key, field, value) of every field below a dataclass; of a class, the value is its default."""
    for item in fields(config):
        key, value = prefix + typed(item.name), getattr(config, item.name, item.default_factory)
        if is_dataclass(value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, item, value


def check_bounds(config: Any) -> None:
    """Raise a ValueError for the first field, by its dotted key, that is outside what its class states."""
    for key, item, value in leaves(config):
        if "words" in item.metadata and value not in item.metadata["words"]:
            *others, last = item.metadata["words"]
            meant = ALSO_SAID.get(value)
            near = [meant] if meant in item.metadata["words"] else nearest(value, item.metadata["words"], limit=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key}={value} must be {', '.join(others)} or {last}.{hint}")
        if "bounds" not in item.metadata or value is None:
            continue
        entries = value if isinstance(value, list) else [value]
        if not entries or not all(item.metadata["bounds"].holds(entry) for entry in entries):
            each = "have one or more entries, each" if isinstance(value, list) else "be"
            raise ValueError(f"{key}={value} must {each} {item.metadata['bounds']}.")


def whole(number: int | float) -> int | float:
    """1e6 as 1000000; what is not a whole number stays, for check_bounds to report."""
    return int(number) if float(number).is_integer() else number


def nearest(word: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """The known words most like `word`, best first, else those that contain it; none where nothing is similar."""
    known = list(known)
    similar = difflib.get_close_matches(word, known, n=limit, cutoff=0.6)
    return similar or [name for name in known if len(word) > 2 and word in name][:limit]


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known."""
    similar = nearest(word, known)
    return f"did you mean {' or '.join(similar)}?" if similar else f"some are {', '.join(sorted(known)[:5])}."


def nearest_multiple(number: int, base: int) -> str:
    """`8 or 16`: the multiples of `base` on both sides of a number that is none."""
    lower = number // base * base
    return f"{lower} or {lower + base}" if lower > 0 else f"{base}"

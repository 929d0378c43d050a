"""What a row must hold before anybody learns from it: finite numbers, in the shapes, types and ranges of its spaces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dreamer.errors import RunStopped
from dreamer.types import Space, TimeStep

LARGEST_REWARD = math.expm1(20.0)
"""The outermost bin of the reward and value heads, about 4.85e8: what lies beyond it cannot be told from it."""


class UnsoundRow(RunStopped):
    """A row breaks what its environment promises, so nothing may learn from it.

    key: of the observation, or "reward"; found: what is wrong with it, in words; row: its place in the episode, from 0.
    """

    def __init__(self, key: str, found: str, row: int) -> None:
        super().__init__(f"{key} {found} in row {row} of an episode")
        self.key, self.found, self.row = key, found, row

    def __reduce__(self) -> tuple[type[UnsoundRow], tuple[str, str, int]]:
        return UnsoundRow, (self.key, self.found, self.row)


def check_row(row: TimeStep, obs_space: dict[str, Space], index: int, has_obs: bool = True) -> None:
    """Raise UnsoundRow where row `index` of an episode cannot be trained on. `has_obs`: rows of `advance` have none."""
    if not -LARGEST_REWARD <= row.reward <= LARGEST_REWARD:  # false for nan as well
        found = f"is {row.reward:g}"
        if math.isfinite(row.reward):
            found += f", beyond the {LARGEST_REWARD:.3g} that the reward head can tell"
        raise UnsoundRow("reward", found, index)
    if not has_obs:
        return
    if row.obs.keys() != obs_space.keys():
        missing = sorted(obs_space.keys() - row.obs.keys())
        key = missing[0] if missing else min(row.obs.keys() - obs_space.keys())
        raise UnsoundRow(f"observation {key}", "is missing" if missing else "is not among its spaces", index)
    for key, space in obs_space.items():
        if found := fault_of(row.obs[key], space):
            raise UnsoundRow(f"observation {key}", found, index)


def fault_of(value: Any, space: Space) -> str | None:
    """What is wrong with an observation, in words; None where it is as `space` promises."""
    if not isinstance(value, np.ndarray | np.generic):
        return f"is a {type(value).__name__}, no array"
    if value.shape != space.shape:
        return f"has the shape {value.shape}, where its space promises {space.shape}"
    if value.dtype != space.dtype:
        return f"is {value.dtype}, where its space promises {space.dtype}"
    if space.dtype == "float32" and not np.isfinite(value).all():
        return _first("holds", value, ~np.isfinite(value))
    if space.is_discrete:
        choices = np.asarray(value, np.int64)
        outside = (choices < 0) | (choices >= np.array(space.classes))
        if outside.any():
            return _first("holds the choice", value, outside) + f", of {space.classes} choices"
    return None


def _first(verb: str, value: Any, is_wrong: Any) -> str:
    place = tuple(int(i) for i in np.argwhere(is_wrong)[0])
    where = f" at {list(place)}" if place else ""
    return f"{verb} {value[place]}{where}"

"""Learning curves: raw ones from run directories, published ones, and what several seeds say together."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from dreamer.config.digest import digest
from dreamer.config.schema import Config
from dreamer.training.saving.returns_file import RETURNS_FILE, read_lines

PUBLISHED = Path(__file__).resolve().parents[2] / "results" / "published.csv"
NUM_BINS = 30
MOST_DRAWN = 2_000_000  # episodes at once, in a bootstrap: 16 MB


class Curve(NamedTuple):
    """Training episodes of one run in order: environment step and wall hours at the end of each, and its return."""

    env_step: Float[np.ndarray, " E"]
    hours: Float[np.ndarray, " E"]
    ret: Float[np.ndarray, " E"]


class Summary(NamedTuple):
    """Runs that differ in the seed alone, in bins of the x axis: `center` of each bin, nan where no episode ended.

    seeds: mean return of each run. middle: mean of these, or with 3 runs and more the interquartile mean of all
    episodes; low, high: its 95 % bootstrap interval over runs and episodes, else None.
    """

    center: Float[np.ndarray, " X"]
    seeds: Float[np.ndarray, "R X"]
    middle: Float[np.ndarray, " X"]
    low: Float[np.ndarray, " X"] | None
    high: Float[np.ndarray, " X"] | None


def group_by_experiment(configs: dict[Path, Config]) -> dict[str, list[Path]]:
    """name -> run directories: those in one directory whose configs differ in the seed alone, in the given order.

    An experiment is called like its directory if that is <name>/seed0 or it has several, else like its only run; by the
    whole path where two would be called the same.
    """
    groups: dict[tuple[Path, str], list[Path]] = {}
    for directory, config in configs.items():
        key = directory.resolve().parent, digest(replace(config, seed=0))
        groups.setdefault(key, []).append(directory)
    names = [
        parent.name if len(group) > 1 or group[0].name.startswith("seed") else group[0].resolve().name
        for (parent, _), group in groups.items()
    ]
    return {
        name if names.count(name) == 1 else group[0].as_posix(): group
        for name, group in zip(names, groups.values(), strict=True)
    }


def read_curve(directory: Path) -> Curve:
    path = directory / RETURNS_FILE
    if not path.is_file():
        raise ValueError(f"runs: {directory} holds no {RETURNS_FILE}.")
    lines = read_lines(path)
    if faults := [line.fault for line in lines if line.fault]:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ValueError(f"runs: {path} is damaged: {faults[0]}{more}. Mend or delete what does not belong there.")
    rows = [(line.row.env_step, line.row.wall_seconds, line.row.ret) for line in lines if line.row]
    if not rows:
        raise ValueError(f"runs: {path} holds no episode.")
    env_step, seconds, ret = np.array(rows, float).T
    return Curve(env_step, seconds / 3600, ret)


def last_tenth(curve: Curve, env_step: int) -> Float[np.ndarray, " E"]:
    """Returns of the episodes that ended in the last tenth of `env_step` environment steps."""
    return curve.ret[curve.env_step > 0.9 * env_step]


def read_published(task: str, obs: str) -> dict[str, Float[np.ndarray, "X 3"]]:
    """method -> rows of environment step, mean return and its standard deviation; none without a checkout."""
    rows: dict[str, list[list[float]]] = {}
    if not PUBLISHED.is_file():
        return {}
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["task"], row["observation"]) == (task, obs):
                values = [float(row[key]) for key in ("env_step", "return_mean", "return_std")]
                rows.setdefault(row["method"], []).append(values)
    return {method: np.array(values) for method, values in rows.items()}


def summarize(
    x: list[np.ndarray], ret: list[np.ndarray], last: float, num_bins: int = NUM_BINS, with_interval: bool = True
) -> Summary:
    """`x` and `ret`: per run, [E] where each episode ended and its return. `last`: where the axis ends."""
    edges = np.linspace(0, last, num_bins + 1)
    episodes = [
        [returns[(places > low) & (places <= high)] for low, high in pairwise(edges)]
        for places, returns in zip(x, ret, strict=True)
    ]
    seeds = np.array([[part.mean() if part.size else np.nan for part in run] for run in episodes])
    center = (edges[:-1] + edges[1:]) / 2
    if len(x) < 3:
        return Summary(center, seeds, seeds.mean(0), None, None)
    num_samples = 1000 if with_interval else 0
    intervals = [bootstrap_iqm([run[index] for run in episodes], num_samples) for index in range(num_bins)]
    middle, low, high = np.array(intervals).T
    if not with_interval:
        return Summary(center, seeds, middle, None, None)
    return Summary(center, seeds, middle, low, high)


def iqm(values: np.ndarray) -> float:
    """Interquartile mean: of the values without the lowest and the highest quarter."""
    cut = len(values) // 4
    return float(np.sort(values)[cut : len(values) - cut].mean())


def bootstrap_iqm(runs: list[np.ndarray], num_samples: int = 1000) -> tuple[float, float, float]:
    """IQM of the episodes of all runs, and the 2.5 and 97.5 percentiles of it where runs and their episodes are drawn
    again with replacement; nan where a run has no episode, or num_samples is 0 (the last two)."""
    if not all(run.size for run in runs):
        return np.nan, np.nan, np.nan
    random = np.random.default_rng(0)
    at_once = max(MOST_DRAWN // (len(runs) * max(run.size for run in runs)), 1)
    counts = [min(at_once, num_samples - start) for start in range(0, num_samples, at_once)]
    draws = [_redrawn_iqm(runs, count, random) for count in counts]
    low, high = np.percentile(np.concatenate(draws), [2.5, 97.5]) if draws else (np.nan, np.nan)
    return iqm(np.concatenate(runs)), float(low), float(high)


def _redrawn_iqm(runs: list[np.ndarray], num_samples: int, random: np.random.Generator) -> np.ndarray:
    """[num_samples]: IQMs of runs and episodes drawn again. Shorter runs are filled up with inf, which sorts last."""
    sizes = np.array([run.size for run in runs])
    longest = sizes.max()
    episodes = np.stack([np.pad(run, (0, longest - run.size), constant_values=np.inf) for run in runs])
    chosen = random.integers(len(runs), size=(num_samples, len(runs)))
    size = sizes[chosen][..., None]
    drawn = episodes[chosen[..., None], (random.random((*chosen.shape, longest)) * size).astype(int)]
    drawn[np.arange(longest) >= size] = np.inf
    ordered = np.sort(drawn.reshape(num_samples, -1), axis=1)
    count = size.sum((1, 2))
    cut, place = count // 4, np.arange(ordered.shape[1])
    is_middle = (place >= cut[:, None]) & (place < (count - cut)[:, None])
    return np.where(is_middle, ordered, 0).sum(1) / (count - 2 * cut)

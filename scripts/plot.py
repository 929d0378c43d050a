"""Draw learning curves: python scripts/plot.py runs=[DIR,DIR] out=curve.png

Training episodes over environment steps, with published means and standard deviations of the same task and kind of
observation beside them (results/published.csv), and over wall time. Directories side by side whose configs differ in
the seed alone are one experiment: a thin line a seed and their mean, from 3 seeds on the interquartile mean with its
95 % bootstrap interval. A directory with runs in it, such as a sweep, stands for these: runs=[SWEEP] draws a curve a
setting, called by the keys that were swept, and its seeds as a band: that interval, or from one to the other of two.
Needs matplotlib: pip install -c requirements.lock -e ".[plot]".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import hydra
import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from dreamer.cli import check_output, own_options, refusing_bad_input, run
from dreamer.config.bounds import bounded
from dreamer.config.file import read_config
from dreamer.envs.suites.imports import install_command
from dreamer.report.curves import Curve, group_by_experiment, read_curve, read_published, summarize
from dreamer.report.groups import experiments_of
from dreamer.report.runs import Run, is_run, walk
from dreamer.training.saving.returns_file import RETURNS_FILE

SUFFIXES = (".png", ".pdf", ".svg", ".jpg")
SEEN = {"vision": "pixels", "proprio": "state"}


@dataclass
class PlotConfig:
    runs: list[str] = field(default_factory=list)
    out: str = "curve.png"
    xmax: float = bounded(0.0, low=0)


ConfigStore.instance().store(name="plot_schema", node=PlotConfig)


@hydra.main(version_base=None, config_path="../conf", config_name="plot")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = own_options(cfg, PlotConfig)
        check_output("out", options.out, *SUFFIXES)
        if not options.runs:
            raise ValueError("runs is empty; give runs=[DIR,DIR], directories with returns.csv and config.yaml.")
        directories, is_sweep = find(options.runs)
        configs = {directory: read_config(directory) for directory in directories}
        tasks = {(config.env.name, config.env.obs) for config in configs.values()}
        if len(tasks) > 1:
            raise ValueError(f"runs={options.runs} are of several tasks: {sorted(tasks)}; draw one at a time.")
        curves = {directory: read_curve(directory) for directory in configs}
        for directory, curve in curves.items():
            if options.xmax and curve.env_step[0] > options.xmax:
                raise ValueError(f"xmax={options.xmax:g} lies before the first episode of {directory} has ended.")
        if is_sweep:
            runs = [Run(directory, config, curves[directory]) for directory, config in configs.items()]
            experiments = {each.name: [run.curve for run in each.runs] for each in experiments_of(runs)}
        else:
            groups = group_by_experiment(configs)
            experiments = {name: [curves[directory] for directory in group] for name, group in groups.items()}
        try:
            import matplotlib
        except ModuleNotFoundError as error:
            raise ValueError(f"scripts/plot.py needs matplotlib: {install_command('plot')}") from error
        matplotlib.use("Agg")
    task, obs = tasks.pop()
    title = f"{task}, {SEEN.get(obs, obs)}"
    draw(options, title, experiments, read_published(task, obs), is_sweep)


def find(places: list[str]) -> tuple[list[Path], bool]:
    """The run directories that were named, or lie in those that were, and whether there are such; what cannot be drawn
    of these is named and left out."""
    directories: list[Path] = []
    is_sweep = False
    for place in map(Path, places):
        inside = list(walk(place)) if place.is_dir() and not is_run(place) else [place]
        is_sweep |= inside not in ([], [place])
        for path in inside or [place]:
            if path != place and not (path / RETURNS_FILE).is_file():
                print(f"{path} is left out: no episode has ended there")
            else:
                directories.append(path)
    if not directories:
        raise ValueError(f"runs={places}: none of them has a {RETURNS_FILE} yet.")
    return directories, is_sweep


def draw(
    options: PlotConfig,
    title: str,
    experiments: dict[str, list[Curve]],
    published: dict[str, np.ndarray],
    is_sweep: bool,
) -> None:
    import matplotlib.pyplot as plt

    figure, (by_step, by_time) = plt.subplots(1, 2, figsize=(10, 4), sharey=True, layout="constrained")
    last = options.xmax or max(curve.env_step[-1] for curves in experiments.values() for curve in curves)
    hours = max(curve.hours[curve.env_step <= last][-1] for curves in experiments.values() for curve in curves)
    for index, (name, curves) in enumerate(experiments.items()):
        ret = [curve.ret for curve in curves]
        draw_experiment(by_step, [curve.env_step for curve in curves], ret, last, f"C{index}", name, is_sweep)
        draw_experiment(by_time, [curve.hours for curve in curves], ret, hours, f"C{index}", name, is_sweep)
    for index, (method, rows) in enumerate(published.items()):
        shown = rows[rows[:, 0] <= 1.05 * last]
        style = {"fmt": "s--", "color": f"0.{3 + 2 * index}", "markersize": 4, "capsize": 2, "linewidth": 1}
        if len(shown):
            by_step.errorbar(*shown.T, label=f"published: {method}", **style)
    by_step.set(xlabel="environment steps", ylabel="episode return", title=title, xlim=(0, 1.05 * last))
    by_step.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    by_step.locator_params(axis="x", nbins=6)
    by_time.set(xlabel="wall time, hours", title=title, xlim=(0, 1.05 * hours))
    figure.legend(*by_step.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    for axes in (by_step, by_time):
        axes.grid(alpha=0.3)
    figure.savefig(options.out, dpi=130)
    print(f"wrote {options.out}")


def draw_experiment(
    axes, x: list[np.ndarray], ret: list[np.ndarray], last: float, color: str, name: str, as_band: bool
) -> None:
    summary = summarize(x, ret, last)
    count = f"{len(x)} seed{'s' if len(x) > 1 else ''}"
    low, high = summary.low, summary.high
    if as_band and len(x) == 2:
        low, high = summary.seeds.min(0), summary.seeds.max(0)
    if len(x) > 1 and not as_band:
        axes.plot(summary.center, summary.seeds.T, "-", color=color, linewidth=0.7, alpha=0.5)
    elif len(x) == 1 and not as_band:
        axes.plot(x[0], ret[0], ".", color=color, markersize=3, alpha=0.4)
    known = np.isfinite(summary.middle)
    axes.plot(summary.center[known], summary.middle[known], "-", color=color, label=f"ours: {name}, {count}")
    if low is not None:
        axes.fill_between(summary.center, low, high, color=color, alpha=0.2, linewidth=0)


if __name__ == "__main__":
    run(main, PlotConfig)

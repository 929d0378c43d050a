"""Draw learning curves: python scripts/plot.py runs=[DIR,DIR] out=curve.png

Every training episode is a dot, the line is the mean of the five episodes up to there, one colour a run. Published
means and standard deviations of the same task and kind of observation (results/published.csv) are drawn beside them.
Needs matplotlib: pip install -e ".[plot]".
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from dreamer.cli import refusing_bad_input, run
from dreamer.config import Config

PUBLISHED = Path(__file__).resolve().parent.parent / "results" / "published.csv"
WINDOW = 5  # episodes


@dataclass
class PlotConfig:
    runs: list[str] = field(default_factory=list)
    out: str = "curve.png"
    xmax: float = 0.0


ConfigStore.instance().store(name="plot_schema", node=PlotConfig)


@hydra.main(version_base=None, config_path="../conf", config_name="plot")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = OmegaConf.to_object(cfg)
        assert isinstance(options, PlotConfig)
        if not options.runs:
            raise ValueError("runs is empty; give runs=[DIR,DIR], directories with returns.csv and config.yaml.")
        configs = [read_config(Path(name)) for name in options.runs]
        tasks = {(config.env.name, config.env.obs) for config in configs}
        if len(tasks) > 1:
            raise ValueError(f"runs={options.runs} are of several tasks: {sorted(tasks)}; draw one at a time.")
        curves = [read_returns(Path(name)) for name in options.runs]
        try:
            import matplotlib
        except ModuleNotFoundError as error:
            raise ValueError('scripts/plot.py needs matplotlib: pip install -e ".[plot]"') from error
        matplotlib.use("Agg")
    task, obs = tasks.pop()
    draw(options, f"{task}, {'pixels' if obs == 'vision' else 'state'}", curves, published(task, obs))


def read_config(directory: Path) -> Config:
    from dreamer.config import from_dict

    path = directory / "config.yaml"
    if not path.is_file():
        raise ValueError(f"runs: {directory} holds no config.yaml.")
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    return from_dict({str(key): value for key, value in values.items()})


def read_returns(directory: Path) -> tuple[list[int], list[float]]:
    path = directory / "returns.csv"
    if not path.is_file():
        raise ValueError(f"runs: {directory} holds no returns.csv.")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [int(row["env_step"]) for row in rows], [float(row["return"]) for row in rows]


def published(task: str, obs: str) -> dict[str, list[tuple[float, float, float]]]:
    """method -> (env_step, mean, std) rows."""
    curves: dict[str, list[tuple[float, float, float]]] = {}
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["task"], row["observation"]) == (task, obs):
                values = (float(row["env_step"]), float(row["return_mean"]), float(row["return_std"]))
                curves.setdefault(row["method"], []).append(values)
    return curves


def draw(options: PlotConfig, title: str, curves: list, references: dict) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    last = options.xmax or max(steps[-1] for steps, _ in curves)
    for index, (name, (steps, returns)) in enumerate(zip(options.runs, curves, strict=True)):
        color = f"C{index}"
        recent = [returns[max(0, i - WINDOW + 1) : i + 1] for i in range(len(returns))]
        means = [sum(part) / len(part) for part in recent]
        axes.plot(steps, returns, ".", color=color, markersize=3, alpha=0.4)
        axes.plot(steps, means, "-", color=color, label=f"ours: {name}")
    for index, (method, rows) in enumerate(references.items()):
        shown = [row for row in rows if row[0] <= 1.05 * last]
        if not shown:
            continue
        x, y, error = zip(*shown, strict=True)
        style = {"fmt": "s--", "color": f"0.{3 + 2 * index}", "markersize": 4, "capsize": 2, "linewidth": 1}
        axes.errorbar(x, y, error, label=f"published: {method}", **style)
    axes.set(xlabel="environment steps", ylabel="episode return", title=title, xlim=(0, 1.05 * last))
    axes.legend(loc="best", fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(options.out, dpi=130)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    run(main, PlotConfig)

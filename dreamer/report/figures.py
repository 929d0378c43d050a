"""The charts of a task: returns beside the published ones, losses, signals and speeds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dreamer.report.charts import Band, Chart, Line, color, draw, thin
from dreamer.report.curves import read_published, summarize
from dreamer.report.groups import Experiment, Task
from dreamer.report.runs import Run

STEPS = "environment steps"
MOST_POINTS = 20_000  # of all runs in one chart; page and memory stay small with 64 runs
MOST_NAMED = 12  # seeds that are named under the pointer; with more, the middle of each experiment alone
LOSSES = ("total", "dyn", "rep", "reward", "cont", "actor", "critic", "replay_value")
SPEEDS = {
    "time/env_steps_per_second": "environment steps per second",
    "time/updates_per_second": "updates per second",
    "time/update_share": "share of the time in which an update runs",
}
SIGNALS = {
    "Behaviour": ("actor/", "critic/", "return/", "imagination/"),
    "World model and gradient": ("model/", "grad/", "replay/", "train/", "env/"),
}
SHOWN_ELSEWHERE = ("episode/", "eval/", "eval_loss/", "loss/", "time/", "hp/")


def last_step(task: Task) -> float:
    return float(max((run.env_step for run in task.runs), default=0))


def curve_chart(task: Task) -> Chart:
    """Training episodes over environment steps, evaluations, and published means with their standard deviations."""
    last = last_step(task)
    chart = Chart("", STEPS, last, y_low=0.0, height="tall")
    for index, (method, rows) in enumerate(shown_published(task).items()):
        step, mean, std = rows.T
        look = f"p{min(index, 2)}"
        chart.bands.append(Band(step, mean - std, mean + std, look, is_bars=True))
        chart.lines.append(Line(step, mean, look, "published", f"{method}, published"))
        chart.lines.append(Line(step, mean, look, "knots"))
    _add_experiments(chart, task, lambda run: run.curve.env_step)
    for index, experiment in enumerate(task.experiments):
        for run in experiment.runs:
            _add_evaluations(chart, run, color(index), f"{_named(task, experiment, run)}, evaluation")
    return chart


def time_chart(task: Task) -> Chart:
    hours = max((float(run.curve.hours[-1]) for run in task.runs if len(run.curve.hours)), default=0.0)
    chart = Chart("Return over wall time", "hours", hours, y_low=0.0)
    _add_experiments(chart, task, lambda run: run.curve.hours, with_interval=False)
    return chart


def shown_published(task: Task) -> dict[str, np.ndarray]:
    """method -> rows of environment step, mean and standard deviation, up to where the runs are."""
    last = last_step(task)
    rows = {method: rows[rows[:, 0] <= last] for method, rows in read_published(task.name, task.obs).items()}
    return {method: some for method, some in rows.items() if len(some)}


def _add_experiments(chart: Chart, task: Task, place: Callable[[Run], np.ndarray], with_interval: bool = True) -> None:
    is_named = len(task.runs) <= MOST_NAMED
    most = max(MOST_POINTS // max(len(task.runs), 1), 100)
    for index, experiment in enumerate(task.experiments):
        runs = [run for run in experiment.runs if len(run.curve.ret)]
        if not runs or chart.x_high <= 0:
            continue
        x, ret = [place(run) for run in runs], [run.curve.ret for run in runs]
        summary = summarize(x, ret, chart.x_high, with_interval=with_interval)
        if len(runs) == 1:
            chart.lines.append(Line(*thin(x[0], ret[0], min(most, 600)), color(index), "dots"))
        else:
            for run, means in zip(runs, summary.seeds, strict=True):
                name = _named(task, experiment, run) if is_named else ""
                chart.lines.append(Line(summary.center, means, color(index), "thin", name))
        if summary.low is not None and summary.high is not None:
            chart.bands.append(Band(summary.center, summary.low, summary.high, color(index)))
        kind = "" if len(runs) == 1 else ", mean" if len(runs) == 2 else ", interquartile mean"
        chart.lines.append(Line(summary.center, summary.middle, color(index), "line", f"{experiment.name}{kind}"))


def _named(task: Task, experiment: Experiment, run: Run) -> str:
    label = experiment.label(run)
    if len(task.experiments) == 1:
        return label
    return experiment.name if len(experiment.runs) == 1 else f"{experiment.name}, {label}"


def _add_evaluations(chart: Chart, run: Run, look: str, name: str) -> None:
    mean, std = run.scalars.get("eval/return_mean"), run.scalars.get("eval/return_std")
    if mean is None:
        return
    chart.lines.append(Line(mean[:, 0], mean[:, 1], look, "marks", name))
    if std is not None and len(std) == len(mean):
        low, high = mean[:, 1] - std[:, 1], mean[:, 1] + std[:, 1]
        chart.bands.append(Band(mean[:, 0], low, high, look, is_bars=True))


def tag_chart(task: Task, tag: str, title: str, compared: str = "", y_low: float | None = None) -> Chart:
    """A scalar of all runs; `compared` is another tag, whose values are marks in the same chart."""
    chart = Chart(title, STEPS, last_step(task), y_low=y_low)
    most = min(max(MOST_POINTS // max(len(task.runs), 1), 60), 300)

    def points(run: Run, tag: str) -> tuple[np.ndarray, np.ndarray]:
        return thin(run.scalars[tag][:, 0], run.scalars[tag][:, 1], most)

    for index, experiment in enumerate(task.experiments):
        for run in experiment.runs:
            name = _named(task, experiment, run)
            if tag in run.scalars:
                look = "line" if len(experiment.runs) == 1 else "thin"
                chart.lines.append(Line(*points(run, tag), color(index), look, name))
            if compared in run.scalars:
                chart.lines.append(Line(*points(run, compared), color(index), "marks", f"{name}, evaluation"))
    return chart


def tags_of(task: Task) -> list[str]:
    return sorted({tag for run in task.runs for tag in run.scalars})


def loss_charts(task: Task) -> list[str]:
    """One for each loss; those of the world model with its losses on evaluation episodes."""
    tags = tags_of(task)
    names = [tag.removeprefix("loss/") for tag in tags if tag.startswith("loss/")]
    inputs = [name for name in names if name not in LOSSES]
    ordered = [name for name in (*LOSSES[:1], *inputs, *LOSSES[1:]) if name in names]
    return [draw(tag_chart(task, f"loss/{name}", name, f"eval_loss/{name}")) for name in ordered]


def signal_charts(task: Task) -> dict[str, list[str]]:
    """heading -> charts of all that was logged and is shown nowhere else."""
    tags = [tag for tag in tags_of(task) if not tag.startswith(SHOWN_ELSEWHERE)]
    sections = {name: [tag for tag in tags if tag.startswith(starts)] for name, starts in SIGNALS.items()}
    known = [tag for some in sections.values() for tag in some]
    sections["Others"] = [tag for tag in tags if tag not in known]
    return {name: [draw(tag_chart(task, tag, tag)) for tag in some] for name, some in sections.items() if some}


def speed_charts(task: Task) -> list[str]:
    """As they were logged; where they were not, environment steps between episodes over the time between them."""
    tags = tags_of(task)
    charts = [tag_chart(task, tag, title, y_low=0.0) for tag, title in SPEEDS.items() if tag in tags]
    if next(iter(SPEEDS)) not in tags:
        charts.insert(0, _speed_between_episodes(task))
    return [*map(draw, charts), draw(time_chart(task))]


def _speed_between_episodes(task: Task, pieces: int = 60) -> Chart:
    chart = Chart(SPEEDS["time/env_steps_per_second"], STEPS, last_step(task), y_low=0.0)
    for index, experiment in enumerate(task.experiments):
        for run in experiment.runs:
            step, seconds = run.curve.env_step, run.curve.hours * 3600
            ends = np.unique(np.linspace(0, len(step) - 1, pieces + 1).astype(int)) if len(step) > 1 else []
            if len(ends) < 2:
                continue
            passed = np.diff(seconds[ends])
            speed = np.where(passed > 0, np.diff(step[ends]) / np.maximum(passed, 1e-9), np.nan)
            middle = (step[ends][1:] + step[ends][:-1]) / 2
            look = "line" if len(experiment.runs) == 1 else "thin"
            chart.lines.append(Line(middle, speed, color(index), look, _named(task, experiment, run)))
    return chart

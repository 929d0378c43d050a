"""The tables of a report: the runs side by side, at the published steps, evaluations, settings, machines."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from dreamer.config.compose import shown
from dreamer.config.digest import digest
from dreamer.report import curves
from dreamer.report.charts import color, compact
from dreamer.report.curves import read_published
from dreamer.report.groups import Experiment, Task, as_word
from dreamer.report.runs import Evaluated, Run

WINDOW = 25_000  # environment steps on both sides of a published one: that is how those figures were computed
MOST_COLUMNS = 8
NONE = '<span class="soft">-</span>'


def text(value: Any, most: int = 80) -> str:
    """Anything, whoever wrote it, as text of the page."""
    return escape(shown(value if isinstance(value, str) else str(value), most))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Cells are HTML. A column in which no row has anything is left out."""
    kept = [i for i in range(len(head)) if not rows or any(row[i] != NONE for row in rows)]
    head, rows = [head[i] for i in kept], [[row[i] for i in kept] for row in rows]
    line = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{kind}"><thead>{line}</thead><tbody>{body}</tbody></table></div>'


def swatch(index: int) -> str:
    return f'<span class="swatch {color(index)}"></span>'


def last_tenth(run: Run) -> np.ndarray:
    """Returns [E] of the training episodes that ended in the last tenth of the environment steps so far."""
    return curves.last_tenth(run.curve, run.env_step)


def last_evaluation(run: Run) -> tuple[int, float, float | None] | None:
    """Environment step, mean and standard deviation of the last evaluation within the run."""
    mean, std = run.scalars.get("eval/return_mean"), run.scalars.get("eval/return_std")
    if mean is None or not len(mean):
        return None
    known = std is not None and len(std) == len(mean)
    return int(mean[-1, 0]), float(mean[-1, 1]), float(std[-1, 1]) if known and std is not None else None


def duration(hours: float | None) -> str:
    if hours is None:
        return NONE
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def spread(mean: float, std: float | None) -> str:
    return f"{mean:,.1f}" if not std else f"{mean:,.1f} <small>± {std:,.1f}</small>"


def runs_table(task: Task) -> str:
    head = ["run", "environment steps", "return, last tenth", "evaluation", "wall time", "steps/s", "updates"]
    rows = []
    for index, experiment in enumerate(task.experiments):
        for run in experiment.runs:
            rows.append([f"{swatch(index)}{_who(task, experiment, run)}", *_facts(run)])
    return table(head, rows)


def _who(task: Task, experiment: Experiment, run: Run) -> str:
    label = text(experiment.label(run))
    name = label if len(task.experiments) == 1 else text(experiment.name)
    if len(task.experiments) > 1 and len(experiment.runs) > 1:
        name = f"{name}, {label}"
    return f'{name}<span class="tag">running</span>' if run.is_running else name


def _facts(run: Run) -> list[str]:
    most = run.config.trainer.max_steps
    share = "" if run.env_step >= most else f" <small>of {compact(most)}</small>"
    end = last_tenth(run)
    tenth = f"{end.mean():,.1f} <small>{len(end)} episode{'' if len(end) == 1 else 's'}</small>" if len(end) else NONE
    evaluation = last_evaluation(run)
    speed = compact(run.env_step / run.hours / 3600) if run.hours else NONE
    updates = run.scalars.get("train/updates")
    return [
        f"{run.env_step:,}{share}",
        tenth,
        NONE if evaluation is None else spread(*evaluation[1:]),
        duration(run.hours),
        speed,
        NONE if updates is None or not len(updates) else f"{updates[-1, 1]:,.0f}",
    ]


def published_table(task: Task) -> str:
    """Means over the window around each published step that all runs of an experiment have passed, or nothing."""
    published = read_published(task.name, task.obs)
    every = sorted({step for rows in published.values() for step in rows[:, 0]})
    ours: list[tuple[str, dict[float, float]]] = []
    for index, experiment in enumerate(task.experiments):
        means = {step: _window(experiment, step) for step in every}
        known = {step: mean for step, mean in means.items() if mean is not None}
        plural = "" if len(experiment.runs) == 1 else f", {len(experiment.runs)} runs"
        ours.append((f"{swatch(index)}{text(experiment.name)}{plural}", known))
    steps = [step for step in every if any(step in known for _, known in ours)]
    steps = steps[:: -(-len(steps) // MOST_COLUMNS)] if steps else []
    if not steps:
        return ""
    rows = [[name, *(f"{known[step]:,.0f}" if step in known else NONE for step in steps)] for name, known in ours]
    for index, (method, figures) in enumerate(published.items()):
        means = {step: mean for step, mean, _ in figures}
        cells = [f"{means[step]:,.0f}" if step in means else NONE for step in steps]
        rows.append([f'<span class="swatch p{min(index, 2)}"></span>{text(method)}, published', *cells])
    return table(["return at", *(compact(step) for step in steps)], rows)


def _window(experiment: Experiment, step: float) -> float | None:
    means = []
    for run in experiment.runs:
        place = run.curve.env_step
        inside = run.curve.ret[(place > step - WINDOW) & (place <= step + WINDOW)]
        if run.env_step < step + WINDOW or not len(inside):
            return None
        means.append(inside.mean())
    return float(np.mean(means))


def evaluations_table(task: Task) -> str:
    """What evaluation.json says of each run, and the last evaluation within it; a dot for each episode."""
    rows = []
    known = [run.evaluated for run in task.runs if run.evaluated]
    high = max((max(evaluated.returns) for evaluated in known), default=0.0)
    low = min((min(evaluated.returns) for evaluated in known), default=0.0)
    for index, experiment in enumerate(task.experiments):
        for run in experiment.runs:
            inside, after = last_evaluation(run), run.evaluated
            if inside is None and after is None:
                continue
            within = NONE if inside is None else f"{spread(*inside[1:])} <small>at {inside[0]:,}</small>"
            cells = (
                [within, NONE, NONE] if after is None else [within, _evaluated(after), _strip(after, low, high, index)]
            )
            rows.append([f"{swatch(index)}{_who(task, experiment, run)}", *cells])
    if not rows:
        return ""
    scale = f"each episode, {compact(low)} to {compact(high)}" if known else ""
    return table(["run", "last within the run", "scripts/evaluate.py", scale], rows)


def _evaluated(evaluated: Evaluated) -> str:
    count = len(evaluated.returns)
    at = "" if evaluated.env_step is None else f", at {evaluated.env_step:,}"
    episodes = f"{count} episode{'' if count == 1 else 's'}"
    return f"{spread(evaluated.mean, evaluated.std)} <small>{episodes}{at}</small>"


def _strip(evaluated: Evaluated, low: float, high: float, index: int) -> str:
    places = [(value - low) / max(high - low, 1e-9) * 180 for value in evaluated.returns]
    dots = "".join(f"M{place:.1f} 7z" for place in places)
    return (
        f'<svg class="strip" viewBox="0 0 180 14" role="img" aria-label="returns of the episodes">'
        f'<path class="rule" d="M0 7H180"/><path class="marks {color(index)}" style="opacity:.55" d="{dots}"/></svg>'
    )


def settings_table(task: Task, values: list[dict[str, tuple[Any, Any]]]) -> str:
    """`values`: for each experiment, key -> default and own value, of the keys that differ from the default."""
    keys = list(dict.fromkeys(key for differing in values for key in differing))
    if not keys:
        return "<p>Nothing: all settings are those of these words.</p>"
    rows = []
    for key in keys:
        default = next(differing[key][0] for differing in values if key in differing)
        cells = [text(as_word(differing[key][1])) if key in differing else NONE for differing in values]
        rows.append([f"<code>{text(key)}</code>", text(as_word(default)), *cells])
    names = ["here"] if len(values) == 1 else [f"{swatch(i)}{text(e.name)}" for i, e in enumerate(task.experiments)]
    return table(["key", "default", *names], rows, "words")


def machines_table(tasks: list[Task]) -> str:
    """Each start of each run: when, from where on, which commit, on what. `not recorded`: from before that was kept."""
    rows = []
    for task in tasks:
        for index, experiment in enumerate(task.experiments):
            for run in experiment.runs:
                who = f"{swatch(index)}{text(run.path.as_posix())}"
                last = run.sessions[-10:]
                rows += [[who, *_session(session), f"<code>{digest(run.config)}</code>"] for session in last]
                if not last:
                    rows.append([who, "not recorded", *[NONE] * 4, f"<code>{digest(run.config)}</code>"])
    return table(["run", "started", "from step", "commit", "machine", "versions", "config"], rows, "words")


def _session(session: dict[str, Any]) -> list[str]:
    def value(key: str) -> str:
        return text(session[key]) if session.get(key) is not None else "?"

    versions = session.get("versions")
    packages = versions if isinstance(versions, dict) else {}
    commit = str(session.get("commit") or "?")
    short = commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
    machine = (
        f"{value('cpu')}, {value('cores')} cores, {value('memory_gb')} GB; {value('device')}, {value('threads')} "
        f"threads; {value('system')}"
    )
    listed = ", ".join(f"{name} {number}" for name, number in list(packages.items())[:8] if number)
    return [value("started"), value("env_step"), f"<code>{text(short)}</code>", machine, text(listed, 160)]

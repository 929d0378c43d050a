"""One HTML file with everything in it: no script but page.js, no network. What others wrote is escaped and bounded.

The page forbids itself (Content-Security-Policy) every script but its own and every address.
"""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from dreamer.config.compose import to_dict
from dreamer.config.schema import Config
from dreamer.report.charts import color, draw
from dreamer.report.curves import read_published
from dreamer.report.figures import curve_chart, loss_charts, shown_published, signal_charts, speed_charts
from dreamer.report.films import films_of
from dreamer.report.groups import Experiment, Task, as_word
from dreamer.report.tables import (
    duration,
    evaluations_table,
    last_evaluation,
    last_tenth,
    machines_table,
    published_table,
    runs_table,
    settings_table,
    text,
)
from dreamer.training.display.next_commands import word

MARK = "<!-- a report of scripts/report.py -->"
"""How a file begins that a new report may take the place of."""
SEEN = {"vision": "pixels", "proprio": "state", "both": "pixels and state", "auto": "all that it gives"}
MOST_FILM_BYTES = 24 << 20
STYLE, SCRIPT = (
    (Path(__file__).with_name(name)).read_text(encoding="utf-8").strip() for name in ("page.css", "page.js")
)
Compared = Callable[[Config], tuple[list[str], dict[str, tuple[Any, Any]]]]
"""`dreamer.config.defaults.compared`, which needs Hydra."""


def build_page(tasks: list[Task], left_out: list[tuple[Path, str]], compared: Compared, now: datetime) -> str:
    # Escaped already.
    title = " · ".join(heading(task) for task in tasks[:3]) + (f" and {len(tasks) - 3} more" if len(tasks) > 3 else "")
    budget = [MOST_FILM_BYTES]
    parts = [_task(task, index, compared, budget, len(tasks) > 1) for index, task in enumerate(tasks)]
    notes = _notes(tasks, left_out)
    script = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
        f"script-src 'sha256-{script}'"
    )
    when = now.strftime("%d %B %Y, %H:%M").lstrip("0")
    return (
        f'<!doctype html>\n{MARK}\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{title}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{title}</h1><p class="lead">{_lead(tasks)}</p>{_contents(tasks)}{notes}{"".join(parts)}'
        f'<h2 id="machine">Machine and commit</h2>{machines_table(tasks)}'
        f"<footer>Written by scripts/report.py on {when}. Steps are environment steps, action repeat included."
        "</footer>"
        f"</main><script>{SCRIPT}</script></body></html>\n"
    )


def heading(task: Task) -> str:
    return f"{text(task.name)} from {SEEN.get(task.obs, text(task.obs))}"


def _lead(tasks: list[Task]) -> str:
    runs = [run for task in tasks for run in task.runs]
    running = sum(run.is_running for run in runs)
    seeds = sorted({run.config.seed for run in runs})
    parts = [f"{len(runs)} run{'' if len(runs) == 1 else 's'}"]
    parts.append(
        f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, seeds[:8]))}{' ...' if len(seeds) > 8 else ''}"
    )
    parts.append(f"up to {max(run.env_step for run in runs):,} environment steps")
    hours = [run.hours for run in runs if run.hours is not None]
    if hours:
        parts.append(" to ".join(dict.fromkeys([duration(min(hours)), duration(max(hours))])))
    if running:
        parts.append(f"{running} still running")
    return " · ".join(parts)


def _contents(tasks: list[Task]) -> str:
    places = {"curve0": "Return", "runs0": "Runs", "losses0": "Losses", "speeds0": "Speeds"}
    if not any(tag.startswith("loss/") for run in tasks[0].runs for tag in run.scalars):
        places.pop("losses0")
    if any(run.evaluated or last_evaluation(run) for run in tasks[0].runs):
        places["evaluations0"] = "Evaluations"
    if any(run.films for run in tasks[0].runs):
        places["films0"] = "Films"
    places |= {"settings0": "Settings", "machine": "Machine"}
    if len(tasks) > 1:
        places = {f"task{index}": heading(task) for index, task in enumerate(tasks)} | {"machine": "Machine"}
    return "<nav>" + "".join(f'<a href="#{key}">{name}</a>' for key, name in places.items()) + "</nav>"


def _notes(tasks: list[Task], left_out: list[tuple[Path, str]]) -> str:
    """What was wrong with files, and which runs are not here."""
    lines = [
        f"<b>{text(run.path.as_posix())}</b>: {text(note, 300)}"
        for task in tasks
        for run in task.runs
        for note in run.notes[:20]
    ]
    lines += [f"<b>{text(path.as_posix())}</b> is left out: {text(reason, 400)}" for path, reason in left_out]
    if not lines:
        return ""
    more = f"<li>and {len(lines) - 40} more</li>" if len(lines) > 40 else ""
    return f'<div class="notes"><ul>{"".join(f"<li>{line}</li>" for line in lines[:40])}{more}</ul></div>'


def _task(task: Task, index: int, compared: Compared, budget: list[int], is_one_of_many: bool) -> str:
    title = f'<h2 id="task{index}" style="font-size:24px">{heading(task)}</h2>' if is_one_of_many else ""
    parts = [
        title,
        _tiles(task),
        _curve(task, index),
        f'<h2 id="runs{index}">The runs side by side</h2>',
        runs_table(task),
    ]
    if evaluations := evaluations_table(task):
        parts += [f'<h2 id="evaluations{index}">Evaluations</h2>', evaluations]
    if films := films_of(task, budget):
        parts += [f'<h2 id="films{index}">Films</h2>', films]
    if losses := loss_charts(task):
        seen = any(tag.startswith("eval_loss/") for run in task.runs for tag in run.scalars)
        what = "Dots are the same losses on evaluation episodes, which the model never trained on." if seen else ""
        parts += [f'<h2 id="losses{index}">Losses</h2><p class="soft">Means between two rows of the log. {what}</p>']
        parts.append(_grid(losses))
    else:
        parts.append(
            '<p class="soft">No losses: the runs have logged nothing yet, or have no files of TensorBoard or CSV '
            "(logger=mlflow and wandb keep them elsewhere).</p>"
        )
    for name, charts in signal_charts(task).items():
        parts.append(f"<details><summary>{name} ({len(charts)})</summary>{_grid(charts)}</details>")
    parts += [f'<h2 id="speeds{index}">Speeds</h2>', _grid(speed_charts(task)), _settings(task, index, compared)]
    return "".join(parts)


def _grid(charts: list[str]) -> str:
    return f'<div class="grid">{"".join(charts)}</div>'


def _tiles(task: Task) -> str:
    """The figures that one looks for first; of several experiments the tables tell them apart."""
    if len(task.experiments) > 1:
        return ""
    runs = task.runs
    tiles = []
    if ends := [float(last_tenth(run).mean()) for run in runs if len(last_tenth(run))]:
        tiles.append((figure(float(np.mean(ends))), f"return of training episodes, last tenth{_range(ends)}"))
    after = [run.evaluated.mean for run in runs if run.evaluated]
    inside = [found[1] for run in runs if (found := last_evaluation(run))]
    if after or inside:
        tiles.append((figure(float(np.mean(after or inside))), f"evaluation{_range(after or inside)}"))
    tiles.append((f"{max(run.env_step for run in runs):,}", "environment steps"))
    if hours := [run.hours for run in runs if run.hours is not None]:
        each = " of each run, mean" if len(runs) > 1 else ""
        tiles.append((duration(float(np.mean(hours))), f"wall time{each}"))
    return f'<div class="tiles">{"".join(f"<div class=tile><b>{a}</b><span>{b}</span></div>" for a, b in tiles)}</div>'


def _range(values: list[float]) -> str:
    return f"; runs {figure(min(values))} to {figure(max(values))}" if len(values) > 1 else ""


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _curve(task: Task, index: int) -> str:
    published = read_published(task.name, task.obs)
    shown = shown_published(task)
    parts = [f'<h2 id="curve{index}">Return</h2>', draw(curve_chart(task)), _legend(task, list(shown))]
    if compared := published_table(task):
        parts.append(
            f"{compared}<p class=soft>Means of training episodes over the 50,000 steps around each, "
            "where all runs have passed them.</p>"
        )
    if published:
        first = min(rows[0, 0] for rows in published.values())
        parts.append(f"<p class=soft>{published_words(published)}")
        parts.append("</p>" if shown else f" They begin at {first:,.0f} environment steps.</p>")
    else:
        parts.append('<p class="soft">results/published.csv has no figures of this task from this observation.</p>')
    return "".join(parts)


def published_words(methods) -> str:
    """What the published figures are, by their names; docs/differences.md has the evidence."""
    evaluated = [name for name in methods if name in ("TD-MPC2", "SAC")]
    words = ["Published figures are means over seeds with their standard deviations."]
    if evaluated:
        words.append(f"Those of {' and '.join(evaluated)} are returns of evaluations, the others of training episodes.")
    if any("first version" in name for name in methods):
        words.append(
            "The authors publish no state curve of today's DreamerV3: theirs is of the paper's first version, of 2023."
        )
    words.append("None of them has the settings of this project's default preset (docs/differences.md).")
    return " ".join(words)


def _legend(task: Task, published: list[str]) -> str:
    def item(look: str, kind: str, words: str) -> str:
        return f'<li><svg viewBox="0 0 26 10"><path class="{kind} {look}" d="M1 5H25"/></svg>{words}</li>'

    items = []
    for index, experiment in enumerate(task.experiments):
        items.append(item(color(index), "line", f"{text(experiment.name)}: {_drawn(experiment)}"))
    if any("eval/return_mean" in run.scalars for run in task.runs):
        dot = f'<svg viewBox="0 0 26 10"><path class="marks {color(0)}" d="M13 5z"/></svg>'
        items.append(f"<li>{dot}evaluations, ± their standard deviation</li>")
    items += [
        item(f"p{min(index, 2)}", "published", f"{text(name)}, published") for index, name in enumerate(published)
    ]
    return f'<ul class="legend">{"".join(items)}</ul>'


def _drawn(experiment: Experiment) -> str:
    count = sum(len(run.curve.ret) > 0 for run in experiment.runs)
    if count == 0:
        return "no episode has ended yet"
    if count == 1:
        return "episodes, and their means"
    seeds = len({run.config.seed for run in experiment.runs})
    what = "seeds" if seeds == len(experiment.runs) else "runs"
    if count == 2:
        return f"2 {what} and their mean"
    return f"{count} {what}, interquartile mean, 95 % interval"


def _settings(task: Task, index: int, compared: Compared) -> str:
    """What differs from the default, and the words that give the same config."""
    found = [compared(experiment.runs[0].config) for experiment in task.experiments]
    base = list(dict.fromkeys(shlex.join(["python", "train.py", *words]) for words, _ in found))
    against = " or ".join(f"<code>{text(words, 200)}</code>" for words in base[:4])
    parts = [
        f'<h2 id="settings{index}">Settings</h2><p class="soft">What differs from {against}; the seed is left out.</p>',
        settings_table(task, [differing for _, differing in found]),
    ]
    for experiment, (words, differing) in list(zip(task.experiments, found, strict=True))[:8]:
        config = experiment.runs[0].config
        typed = [as_typed(key, own) for key, (_, own) in differing.items()]
        command = shlex.join(["python", "train.py", *words, *typed, f"seed={config.seed}"])
        name = f" of {text(experiment.name)}" if len(task.experiments) > 1 else ""
        values = yaml.safe_dump(
            {key: value for key, value in to_dict(config).items() if key != "run_dir"}, sort_keys=False
        )
        parts.append(
            f"<details><summary>Words{name} in full, and all keys</summary>"
            f'<pre class="words">{escape(command[:20_000])}</pre><pre>{escape(values[:40_000])}</pre></details>'
        )
    return "".join(parts)


def as_typed(key: str, value: Any) -> str:
    """`key=value` as Hydra gives it back: text that would read as something else stands in quotes."""
    return word(key, value) if isinstance(value, str) else f"{key}={as_word(value)}"

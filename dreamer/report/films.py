"""The films of a report: dreams of the world model and episodes of evaluations, inside the page."""

from __future__ import annotations

import base64

from dreamer.report.groups import Task
from dreamer.report.runs import Film, Run
from dreamer.report.tables import text

FILM_WORDS = (
    '<p class="soft">A dream: training sequences (top), what the world model predicts of them (middle), the error '
    "(bottom, grey is none). Green edge: it sees the frames. Red: it knows only the actions.</p>"
)


def films_of(task: Task, budget: list[int]) -> str:
    """Of each run the last film of each kind, and of dreams the first too, while there are bytes left in `budget`."""
    parts = []
    for experiment in task.experiments:
        for run in experiment.runs:
            chosen = [film for film in _chosen(run) if _fits(film, budget)]
            name = f"{experiment.name}, {experiment.label(run)}" if len(task.experiments) > 1 else experiment.label(run)
            if chosen:
                title = f"<h3>{text(name)}</h3>" if len(task.runs) > 1 else ""
                parts.append(f'{title}<div class="films">{"".join(map(_film, chosen))}</div>')
    words = FILM_WORDS if any(film.tag.startswith("open_loop") for run in task.runs for film in run.films) else ""
    return words + "".join(parts) if parts else ""


def _chosen(run: Run) -> list[Film]:
    films: list[Film] = []
    for tag in sorted({film.tag for film in run.films}, reverse=True):
        some = sorted((film for film in run.films if film.tag == tag), key=lambda film: film.env_step)
        films += [some[0], some[-1]] if tag.startswith("open_loop") and len(some) > 1 else [some[-1]]
    return films[:8]


def _fits(film: Film, budget: list[int]) -> bool:
    budget[0] -= len(film.data)
    return budget[0] >= 0


def _film(film: Film) -> str:
    scale = 2 if film.width <= 300 else 1
    kind, _, key = film.tag.partition("/")
    words = f"dream of {text(key)}" if kind == "open_loop" else "an evaluation's first episode"
    data = base64.b64encode(film.data).decode()
    return (
        f'<figure><img src="data:image/gif;base64,{data}" width="{film.width * scale}" height="{film.height * scale}" '
        f'alt="{words}"><figcaption>{words}, step {film.env_step:,}</figcaption></figure>'
    )

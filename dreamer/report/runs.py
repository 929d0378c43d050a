"""What a run directory tells: its config and returns, what was logged, films, evaluations, machines. It is only read.

Files may be somebody else's, being written, torn or damaged: sizes are bounded, and what cannot be used is named.
"""

from __future__ import annotations

import csv
import json
import math
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from dreamer.config.compose import shown
from dreamer.config.file import CONFIG_FILE, read_config
from dreamer.config.schema import Config
from dreamer.report.curves import Curve
from dreamer.report.events import LONGEST_TAG, MOST_TAGS, read_event_files
from dreamer.training.saving.lock import HOLDER_FILE
from dreamer.training.saving.returns_file import RETURNS_FILE, read_lines
from dreamer.training.saving.sessions import SESSIONS_FILE

MOST_RUNS = 64
LARGEST_RETURNS, LARGEST_CSV, LARGEST_TEXT = 64 << 20, 256 << 20, 1 << 20  # bytes
LARGEST_FILM = 8 << 20
LARGEST_VALUE = 1e100  # beyond it a sum of squares overflows
MOST_EPISODES = 1000  # of an evaluation
ERROR_FILE = "error.txt"  # of a job of a multirun
GIF_NAME = re.compile(r"(eval_episode|open_loop_.{1,80})_(\d{9,12})\.gif")


class Film(NamedTuple):
    """A GIF: what it shows, such as `open_loop/image`, of which environment step, its pixels and its bytes."""

    tag: str
    env_step: int
    width: int
    height: int
    data: bytes


class Evaluated(NamedTuple):
    """What scripts/evaluate.py wrote: returns of the episodes, and the environment step of the agent."""

    returns: list[float]
    env_step: int | None

    @property
    def mean(self) -> float:
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        return float(np.std(self.returns))


@dataclass
class Run:
    """A run as its directory has it now. scalars: tag -> [N 2] of environment step and value, in order."""

    path: Path
    config: Config
    curve: Curve
    scalars: dict[str, np.ndarray] = field(default_factory=dict)
    films: list[Film] = field(default_factory=list)
    evaluated: Evaluated | None = None
    sessions: list[dict[str, Any]] = field(default_factory=list)
    is_running: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def env_step(self) -> int:
        """The last one that is known of."""
        ends = [int(points[-1, 0]) for points in self.scalars.values() if len(points)]
        return max([*ends, *map(int, self.curve.env_step[-1:])], default=0)

    @property
    def hours(self) -> float | None:
        """Wall time until there, as far as it was logged."""
        logged = self.scalars.get("time/wall_hours", np.zeros((0, 2)))
        return max(map(float, [*logged[-1:, 1], *self.curve.hours[-1:]]), default=None)


def read_runs(places: list[Path]) -> tuple[list[Run], list[tuple[Path, str]]]:
    """The runs that `places` are, or hold up to two levels deep, and what was left out there, with the reason.

    ValueError, by its name, for a place that is or holds no run, for a run that was named and cannot be read, and for
    too many.
    """
    found: dict[Path, Path] = {}  # resolved -> as it was given
    left_out: list[tuple[Path, str]] = []
    for place in places:
        if not place.is_dir():
            raise ValueError(f"run={place} is no directory; give a run directory, several, or one with runs in it.")
        paths = list(walk(place))
        failed = [path for path in paths if not is_run(path)]
        left_out += [(path, f"failed: {_last_line(path / ERROR_FILE)}") for path in failed]
        if len(failed) == len(paths):
            more = f" {len(failed)} of its jobs failed; see their {ERROR_FILE}." if failed else ""
            raise ValueError(f"run={place} holds no run, that is no {CONFIG_FILE} and no {RETURNS_FILE}.{more}")
        found |= {path.resolve(): path for path in paths if is_run(path) and path.resolve() not in found}
    if len(found) > MOST_RUNS:
        raise ValueError(f"run: {len(found)} runs; a report takes {MOST_RUNS}. Name those to compare: run=[DIR,DIR].")
    runs: list[Run] = []
    for path in found.values():
        try:
            runs.append(read_run(path))
        except ValueError as error:
            if path in places or len(found) == 1:
                raise
            left_out.append((path, str(error).removeprefix("run: ")))
    if not runs:
        raise ValueError(f"run: none of the {len(found)} runs can be read. {left_out[-1][1]}")
    return runs, left_out


def is_run(path: Path) -> bool:
    return (path / CONFIG_FILE).is_file() or (path / RETURNS_FILE).is_file()


def walk(place: Path, depth: int = 0) -> Iterator[Path]:
    """Runs, and jobs that failed before they were one, at `place` or up to two levels below, numbers in their order."""
    if is_run(place) or (depth and (place / ERROR_FILE).is_file()):
        yield place
    elif depth < 2:
        below = [path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")]
        for path in sorted(
            below, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)]
        ):
            yield from walk(path, depth + 1)


def _last_line(path: Path) -> str:
    lines = first_bytes(path).decode(errors="replace").strip().splitlines()
    return shown(lines[-1], 300) if lines else ""


def first_bytes(path: Path) -> bytes:
    """At most LARGEST_TEXT of a file; OSError where it is none."""
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(path)
    with path.open("rb") as file:
        return file.read(LARGEST_TEXT)


def read_run(path: Path) -> Run:
    """ValueError, by its name, where the config is missing or cannot be read: then nothing says what the run is."""
    if (path / CONFIG_FILE).is_file() and (path / CONFIG_FILE).stat().st_size > LARGEST_TEXT:
        raise ValueError(f"run: {path / CONFIG_FILE} is larger than any config.")
    try:
        config = read_config(path)
    except ValueError as error:
        raise ValueError(f"run: {str(error).removeprefix('runs: ')}") from error
    run = Run(path, config, Curve(np.zeros(0), np.zeros(0), np.zeros(0)))
    _read_returns(run)
    _read_scalars(run)
    _read_films(run)
    _read_evaluation(run)
    _read_sessions(run)
    run.is_running = is_held(path / HOLDER_FILE)
    return run


def _read_returns(run: Run) -> None:
    path = run.path / RETURNS_FILE
    if not path.is_file():
        return
    if path.stat().st_size > LARGEST_RETURNS:
        run.notes.append(f"{RETURNS_FILE} has {path.stat().st_size:,} bytes, more than a report reads")
        return
    lines = [line for line in read_lines(path) if not line.is_torn]  # a torn one is being written, or was for a kill
    if faults := [line.fault for line in lines if line.fault]:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        run.notes.append(f"{RETURNS_FILE} is damaged: {faults[0]}{more}; the sound lines were read")
    rows = sorted((line.row.env_step, line.row.wall_seconds, line.row.ret) for line in lines if line.row)
    if any(max(map(abs, row)) >= LARGEST_VALUE for row in rows):
        run.notes.append(f"{RETURNS_FILE} has numbers that nothing can be; their lines were left out")
        rows = [row for row in rows if max(map(abs, row)) < LARGEST_VALUE]
    if rows:
        env_step, seconds, ret = np.array(rows, float).T
        run.curve = Curve(env_step, seconds / 3600, ret)


def _read_scalars(run: Run) -> None:
    logged = read_event_files(run.path)
    run.notes += logged.notes
    for path in sorted(run.path.glob("csv/version_*/metrics.csv"), key=lambda path: (len(path.parent.name), path)):
        _read_csv(path, logged.scalars, run.notes)
    run.scalars = {tag: np.array(points, float).reshape(-1, 2) for tag, points in logged.scalars.items()}
    for tag, (env_step, data) in logged.images.items():
        _add_film(run, tag, env_step, data)


def _read_csv(path: Path, scalars: dict[str, list[tuple[int, float]]], notes: list[str]) -> None:
    """A session with logger=csv; where it begins, what earlier ones logged beyond that is void."""
    name = path.relative_to(path.parents[2])
    if path.stat().st_size > LARGEST_CSV:
        notes.append(f"{name} has {path.stat().st_size:,} bytes, more than a report reads")
        return
    *lines, _ = path.read_bytes().decode(errors="replace").split("\n")  # without the line that has no end yet
    session: dict[str, list[tuple[int, float]]] = {}
    num_unread = 0
    try:
        for row in csv.DictReader(lines):
            try:
                env_step = int(row["step"])
                values = {str(tag)[:LONGEST_TAG]: float(text) for tag, text in row.items() if text and tag != "step"}
            except (KeyError, TypeError, ValueError):
                num_unread += 1
                continue
            for tag, value in values.items():
                if abs(value) < LARGEST_VALUE and (tag in session or len(session) < MOST_TAGS):
                    session.setdefault(tag, []).append((env_step, value))
    except csv.Error as error:
        notes.append(f"{name} is damaged ({error}); what comes before was read")
    if num_unread:
        notes.append(f"{name} has {num_unread} lines that cannot be read; the others were")
    start = min((points[0][0] for points in session.values()), default=math.inf)
    for tag, points in session.items():
        scalars[tag] = sorted([*(point for point in scalars.get(tag, []) if point[0] < start), *points])


def _read_films(run: Run) -> None:
    """The first and the last of each kind in videos/, which are in the event files too."""
    kinds: dict[str, dict[int, Path]] = {}
    for path in (run.path / "videos").glob("*.gif"):
        found = GIF_NAME.fullmatch(path.name)
        if found is not None and path.is_file():
            tag = found[1].replace("eval_", "eval/").replace("open_loop_", "open_loop/", 1)
            kinds.setdefault(tag, {})[int(found[2])] = path
    for tag, paths in sorted(kinds.items()):
        for env_step in sorted({min(paths), max(paths)}):
            path = paths[env_step]
            if path.stat().st_size > LARGEST_FILM:
                run.notes.append(f"videos/{path.name} has {path.stat().st_size:,} bytes, more than a report takes")
            else:
                _add_film(run, tag, env_step, path.read_bytes())


def _add_film(run: Run, tag: str, env_step: int, data: bytes) -> None:
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    is_gif = data[:6] in (b"GIF87a", b"GIF89a") and data[-1:] == b";" and 0 < width <= 8192 and 0 < height <= 8192
    if not is_gif or len(data) > LARGEST_FILM:
        run.notes.append(f"{shown(tag)} of step {env_step:,} is no whole GIF")
    elif all((film.tag, film.env_step) != (tag, env_step) for film in run.films):
        run.films.append(Film(tag, env_step, width, height, data))


def _read_evaluation(run: Run) -> None:
    path = run.path / "evaluation.json"
    if not path.is_file():
        return
    try:
        values = json.loads(first_bytes(path))
        returns = [float(value) for value in values["returns"]]
        if not 0 < len(returns) <= MOST_EPISODES or not all(map(math.isfinite, returns)):
            raise ValueError("returns")
        env_step = values.get("env_steps")
        run.evaluated = Evaluated(returns, env_step if isinstance(env_step, int) else None)
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        run.notes.append("evaluation.json is not what scripts/evaluate.py writes")


def _read_sessions(run: Run) -> None:
    path = run.path / SESSIONS_FILE
    if not path.is_file():
        return
    for line in first_bytes(path).splitlines():
        try:
            session = json.loads(line)
            if not isinstance(session, dict):
                raise ValueError("no mapping")
            run.sessions.append(session)
        except (ValueError, RecursionError):
            run.notes.append(f"{SESSIONS_FILE} has a line that cannot be read")
            return


def is_held(path: Path) -> bool:
    """Whether a process of this machine says that it is the run's; the lock itself is left alone."""
    try:
        holder = json.loads(first_bytes(path))
        return holder["host"] == socket.gethostname() and psutil.pid_exists(holder["pid"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return False

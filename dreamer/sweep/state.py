"""What the directory of a job tells: not begun, running, stopped, failed, pruned or finished. Imports no torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from dreamer.config.compose import shown
from dreamer.report.curves import Curve, last_tenth, read_curve
from dreamer.report.runs import ERROR_FILE, first_bytes, is_held, is_run
from dreamer.training.saving.disk import write_whole
from dreamer.training.saving.lock import HOLDER_FILE

JOB_FILE = "job.json"
PRUNED_FILE = "pruned.txt"


@dataclass
class Record:
    """JOB_FILE, which the job's own process writes: what was swept, and where its last session ended.

    finished_at: trainer.max_steps, once the run has reached it.
    """

    overrides: list[str] = field(default_factory=list)
    finished_at: int | None = None
    stopped_at: int | None = None

    def write(self, directory: Path) -> None:
        write_whole(directory / JOB_FILE, json.dumps(asdict(self)).encode() + b"\n")


class State(NamedTuple):
    """`word`: one of the six above. `note`: why, where it failed or was pruned. ret, hours: nan where no episode is."""

    word: str
    note: str
    overrides: list[str]
    ret: float
    hours: float


def read_record(directory: Path) -> Record | None:
    """None where no job has begun there, or what the file holds is none."""
    try:
        values: Any = json.loads(first_bytes(directory / JOB_FILE))
        record = Record(**values)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    steps = (record.finished_at, record.stopped_at)
    is_sound = isinstance(record.overrides, list) and all(isinstance(word, str) for word in record.overrides)
    return record if is_sound and all(step is None or isinstance(step, int) for step in steps) else None


def read_state(directory: Path) -> State:
    record = read_record(directory)
    curve = curve_of(directory)
    ret, hours = (math.nan, math.nan) if curve is None else (return_of(curve), float(curve.hours[-1]))
    word, note = word_of(directory, record)
    return State(word, note, record.overrides if record else [], ret, hours)


def word_of(directory: Path, record: Record | None) -> tuple[str, str]:
    """`word` and `note` of a State."""
    if is_held(directory / HOLDER_FILE):
        return "running", ""
    for word, name in (("pruned", PRUNED_FILE), ("failed", ERROR_FILE)):
        if (directory / name).is_file():
            return word, reason(directory / name)
    if record is not None and record.finished_at is not None:
        return "finished", ""
    if not is_run(directory):
        return "not begun", ""
    return "stopped", f"at {record.stopped_at:,}" if record is not None and record.stopped_at is not None else ""


def reason(path: Path) -> str:
    """A line of ERROR_FILE or PRUNED_FILE: the last one of a traceback, else the first."""
    lines = first_bytes(path).decode(errors="replace").strip().splitlines()
    return shown(lines[-1 if lines[0].startswith("Traceback") else 0], 300) if lines else ""


def curve_of(directory: Path) -> Curve | None:
    """None where there is no episode yet, or the file cannot be read."""
    try:
        return read_curve(directory)
    except (OSError, ValueError):
        return None


def return_of(curve: Curve) -> float:
    """What a run is judged by: the mean return of the training episodes in the last tenth of its environment steps."""
    return float(last_tenth(curve, int(curve.env_step[-1])).mean())


def begun_jobs(sweep_dir: Path) -> list[Path]:
    """Directories of the jobs that have begun, or failed before that, by their numbers."""
    found = {path.parent for name in (JOB_FILE, ERROR_FILE) for path in sweep_dir.glob(f"*/{name}")}
    return sorted((path for path in found if path.name.isdigit()), key=lambda path: int(path.name))

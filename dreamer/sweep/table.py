"""The end of a sweep: a table of its jobs on the terminal, the same as CSV beside them, and how to go on."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dreamer.cli import exit_with
from dreamer.config.error_words import printable
from dreamer.report.runs import ERROR_FILE
from dreamer.sweep.begun import Begun
from dreamer.sweep.plan import Planned
from dreamer.sweep.state import begun_jobs, read_state
from dreamer.training.saving.disk import write_whole

TABLE_FILE = "sweep.csv"
COLUMNS = ("job", "overrides", "return", "status", "hours")
MOST_WORDS = 300  # letters of a launcher's own error
WIDEST = 72  # letters of a cell in a terminal; the CSV has all of it


class Row(NamedTuple):
    """`status` is a state's word, with its note where it has one."""

    job: str
    overrides: str
    ret: float
    word: str
    note: str
    hours: float

    @property
    def cells(self) -> tuple[str, ...]:
        """As they stand in both tables; what is not known stays empty."""
        ret, hours = ("" if math.isnan(value) else f"{value:.{n}f}" for value, n in ((self.ret, 2), (self.hours, 3)))
        separator = ": " if self.word in ("failed", "pruned") else " "
        return self.job, self.overrides, ret, f"{self.word}{separator}{self.note}" if self.note else self.word, hours


def end_of_sweep(begun: Begun) -> None:
    """Called in any case before the process ends, which it does with 130 where the sweep was asked to stop."""
    begun.restore()
    rows = rows_of(begun.directory, begun.planned)
    if all(row.word == "not begun" for row in rows):
        return  # refused, in words that follow
    write_whole(begun.directory / TABLE_FILE, as_csv(rows).encode())
    print(f"\n{as_text(rows)}\n{shown(begun.directory / TABLE_FILE)}", flush=True)
    is_interrupted = begun.is_stopped or isinstance(sys.exception(), KeyboardInterrupt | SystemExit)
    if is_interrupted or any(row.word in ("stopped", "running", "not begun") for row in rows):
        print(f"To go on: {go_on(begun)}", flush=True)
    if begun.is_stopped:
        sys.exit(130)
    error = sys.exception()
    if error is not None and (launcher := type(error).__module__.partition(".")[0]) in ("joblib", "submitit"):
        words = (
            f"{launcher} lost the process of a job; the system ends those that take too much memory. {one_line(error)}"
        )
        exit_with(words, status=1)
    if begun.is_search and not any(row.word in ("finished", "pruned") for row in rows):
        exit_with(f"no trial of this search came to its end; see {ERROR_FILE} in their directories.", status=1)


def one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {printable(str(error))[:MOST_WORDS]}"


def go_on(begun: Begun) -> str:
    same = "the same command"
    if not any(word.startswith("run_dir=") for word in sys.argv[1:]):
        same += f" with run_dir={shown(begun.directory)}"
    return f"{same}. What is finished is skipped, the rest goes on where it stopped."


def shown(path: Path) -> Path:
    """Relative to the current directory, where it lies in there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def rows_of(directory: Path, planned: Sequence[Planned]) -> list[Row]:
    """A row for each planned job, or where none were planned for each that has begun, by their numbers."""
    if not planned:
        places = [(path.name, path, None) for path in begun_jobs(directory)]
    else:
        places = [(str(job.number), job.directory, job.overrides) for job in planned]
    rows = []
    for name, path, overrides in places:
        state = read_state(path)
        words = " ".join(state.overrides if overrides is None else overrides)
        rows.append(Row(name, words, state.ret, state.word, state.note, state.hours))
    return rows


def as_csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(row.cells for row in rows)
    return text.getvalue()


def as_text(rows: Sequence[Row]) -> str:
    """Columns for a terminal; numbers stand to the right."""
    cells = [COLUMNS, *(tuple(shorten(cell) for cell in row.cells) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    is_number = (True, False, True, False, True)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in cells
    )


def shorten(cell: str) -> str:
    return cell if len(cell) <= WIDEST else f"{cell[: WIDEST - 3]}..."

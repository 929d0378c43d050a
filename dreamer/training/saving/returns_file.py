"""returns.csv: the line of each training episode, and how it is read back with whatever has become of it."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import NamedTuple

from dreamer.training.saving.disk import write_whole, writing

RETURNS_FILE = "returns.csv"
COLUMNS = ("env_step", "wall_seconds", "return", "length")
HEADER = ",".join(COLUMNS)


class Row(NamedTuple):
    """An episode: the run's env_step when it ended, wall time of the run until then, its return and policy steps."""

    env_step: int
    wall_seconds: float
    ret: float
    length: int


class Line(NamedTuple):
    """A line of the file as it stands there, without its end, and what is wrong with it, if anything."""

    text: str
    row: Row | None
    fault: str | None
    is_torn: bool  # without an end: the last one of a process that was killed, or of one that is writing it


def read_lines(path: Path) -> list[Line]:
    """Every line but a sound header, in order; a fault is named by its line number, which is 1 for the header."""
    *texts, tail = path.read_bytes().decode(errors="replace").split("\n")
    lines = [_parse(text.removesuffix("\r"), number, False) for number, text in enumerate(texts, start=1)]
    if tail:
        lines.append(_parse(tail, len(lines) + 1, True))
    return [line for line in lines if line.row or line.fault]


def format_row(row: Row) -> str:
    return f"{row.env_step},{row.wall_seconds:.1f},{row.ret:.4f},{row.length}\n"


def _parse(text: str, number: int, is_torn: bool) -> Line:
    if number == 1:
        fault = None if text == HEADER else f"line 1 is {text[:60]!r}, expected {HEADER!r}"
        return Line(text, None, fault, is_torn)
    if not text.strip():
        return Line(text, None, f"line {number} is blank", is_torn)
    values = text.split(",")
    if len(values) != len(COLUMNS):
        return Line(text, None, f"line {number} has {len(values)} of {len(COLUMNS)} values ({text[:60]!r})", is_torn)
    try:
        row = Row(int(values[0]), float(values[1]), float(values[2]), int(values[3]))
    except ValueError:
        return Line(text, None, f"line {number} holds something that is no number ({text[:60]!r})", is_torn)
    if min(row.env_step, row.length) < 0 or not math.isfinite(row.wall_seconds + row.ret):
        return Line(text, None, f"line {number} holds what no episode gives ({text[:60]!r})", is_torn)
    return Line(text, row, None, is_torn)


def append_return(path: Path, env_step: int, seconds: float, ret: float, length: int) -> None:
    is_new = not path.exists() or not path.stat().st_size
    with writing(path), path.open("a", newline="", encoding="utf-8") as file:
        file.write((f"{HEADER}\n" if is_new else "") + format_row(Row(env_step, seconds, ret, length)))


def trim_returns(path: Path, env_step: int) -> None:
    """Drop what lies beyond the checkpoint that a run goes on from: those steps will be taken again.

    Lines that hold no episode are dropped too, but for the half line of a killed process not in silence: the file as
    it was is kept under another name.
    """
    if not path.exists():
        return
    lines = [line for line in read_lines(path) if not line.is_torn]
    if faults := [line.fault for line in lines if line.fault]:
        kept = keep_damaged(path)
        more = f" and {len(faults) - 1} more lines" if len(faults) > 1 else ""
        print(f"{path} is damaged: {faults[0]}{more}. It is kept as {kept.name}; the run goes on with the sound lines.")
    rows = [line.text for line in lines if line.row and line.row.env_step <= env_step]
    write_whole(path, "".join(f"{text}\n" for text in [HEADER, *rows]).encode())


def keep_damaged(path: Path) -> Path:
    """Copy a file to the first free name of <path>.damaged, <path>.damaged2, ..."""
    copy, count = path.with_name(f"{path.name}.damaged"), 1
    while copy.exists():
        count += 1
        copy = path.with_name(f"{path.name}.damaged{count}")
    with writing(copy, path.stat().st_size):
        shutil.copyfile(path, copy)
    return copy

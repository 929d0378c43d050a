"""The file of a report: written whole, and only in the place of another report."""

from __future__ import annotations

from pathlib import Path

from dreamer.report.page import MARK
from dreamer.training.saving.disk import write_whole


def check_replaceable(out: Path, overwrite: bool) -> None:
    """ValueError where `out` is there and no report, unless it may be overwritten; never for what is no plain file."""
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_file():
        raise ValueError(f"out={out} is no plain file; choose another name.")
    with out.open("rb") as file:
        is_report = MARK.encode() in file.read(200)
    if not is_report and not overwrite:
        raise ValueError(f"out={out} is there and no report; choose another name, or add overwrite=true.")


def write_report(out: Path, page: str) -> None:
    """ValueError where the disk is full or the directory takes no file."""
    try:
        write_whole(out, page.encode("utf-8", errors="replace"))
    except OSError as error:
        raise ValueError(f"out={out} cannot be written: {error}") from error

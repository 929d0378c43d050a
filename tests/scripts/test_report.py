"""scripts/report.py: what it writes, and over what it does not write."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

ROOT = Path(__file__).parents[2]
RUN = ROOT / "results" / "walker_walk_state" / "seed0"


@pytest.fixture
def report(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> Callable[..., tuple[int, str]]:
    """Runs scripts/report.py in an empty directory: exit status and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")

    def report(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", [str(ROOT / "scripts" / "report.py"), *words])
        GlobalHydra.instance().clear()
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return status, "".join(capsys.readouterr())

    return report


def test_one_file_is_written_and_a_report_may_take_the_place_of_a_report(report, tmp_path):
    status, printed = report(f"run={RUN}", "out=walker.html")
    kilobytes = (tmp_path / "walker.html").stat().st_size / 1000
    assert status == 0 and printed == f"wrote walker.html ({kilobytes:.0f} kB): 1 run\n" and kilobytes < 100
    first = (tmp_path / "walker.html").read_text(encoding="utf-8")
    assert "walker_walk from state" in first and "python train.py env=walker_walk" in first
    assert report(f"run={RUN}", "out=walker.html")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["walker.html"], "no part of a file is left"


@pytest.mark.slow
def test_several_runs_and_directories_of_runs_are_taken(report, tmp_path):
    shutil.copytree(RUN, tmp_path / "runs" / "12")
    shutil.copytree(RUN, tmp_path / "7")
    status, printed = report("run=[runs,7]", "out=a.html")
    assert status == 0 and printed.endswith(": 2 runs\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "run has no value; give run=<run directory"),
        (["run="], "run has no value"),
        (["run=[]"], "run has no value"),
        (["run={a: 1}"], "run={'a': 1} must be a directory or a list of them"),
        (["run=[[a]]"], "must be a directory or a list of them"),
        (["run=nowhere"], "run=nowhere is no directory"),
        (["run=."], "run=. holds no run"),
        (
            [f"run={RUN}", "out=mine.html"],
            "out=mine.html is there and no report; choose another name, or add overwrite",
        ),
        ([f"run={RUN}", "out=link.html", "overwrite=true"], "out=link.html is no plain file"),
        ([f"run={RUN}", "out=directory.html", "overwrite=true"], "out=directory.html is no plain file"),
        ([f"run={RUN}", "out=a.txt"], "out=a.txt must end in .html"),
        ([f"run={RUN}", "out=no/a.html"], "out=no/a.html: the directory no does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line_and_nothing_is_written(report, tmp_path, words, message):
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    (tmp_path / "link.html").symlink_to("mine.html")
    (tmp_path / "directory.html").mkdir()
    status, printed = report(*words)
    assert status == 2 and printed.startswith("error: ") and message in printed and len(printed.splitlines()) == 1
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>" and len(list(tmp_path.iterdir())) == 3


def test_another_file_is_overwritten_where_the_user_says_so(report, tmp_path):
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    assert report(f"run={RUN}", "out=mine.html", "overwrite=true")[0] == 0
    assert "walker_walk" in (tmp_path / "mine.html").read_text(encoding="utf-8")

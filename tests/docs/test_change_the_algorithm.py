"""The idea of docs/change-the-algorithm.md works as it stands there: in a copy of the repository its blocks run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks, commands

PAGE = ROOT / "docs" / "change-the-algorithm.md"
COPIED = ["conf", "docs", "dreamer", "scripts", "tests", "train.py", "pyproject.toml"]
COPIED += ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CITATION.cff"]


def write_files(root: Path) -> list[Path]:
    """Write the blocks whose first line names a file."""
    written = []
    for block in (block for language in ("python", "yaml") for block in blocks(PAGE, language)):
        head, text = block.split("\n", 1)
        written.append(root / head.removeprefix("# "))
        assert not written[-1].exists(), head
        written[-1].write_text(text, encoding="utf-8")
    return written


def apply_changes(root: Path) -> None:
    """Apply the blocks of changes: a piece begins with @@, and what it replaces stands once in the file."""
    for block in blocks(PAGE, "diff"):
        head, *pieces = block.split("@@\n")
        path = root / head.split()[1]
        text = path.read_text(encoding="utf-8")
        for piece in pieces:
            before, after = (
                "".join(line[1:] + "\n" for line in piece.splitlines() if line[0] in marks) for marks in (" -", " +")
            )
            assert text.count(before) == 1, f"{path.name}: {before}"
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_idea_of_the_page_runs(tmp_path):
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "results").symlink_to(ROOT / "results")
    files = write_files(tmp_path)
    assert [path.suffix for path in files] == [".py", ".py", ".yaml"]
    apply_changes(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> None:
        subprocess.run([sys.executable, *words], cwd=tmp_path, env=environment, check=True)

    run("-c", f"import dreamer; assert dreamer.__file__.startswith({str(tmp_path)!r})")
    run("-m", "ruff", "check", *map(str, files[:2]))
    run("-m", "ruff", "format", "--check", "--diff", "dreamer/config", "dreamer/behavior", *map(str, files[:2]))
    run(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        str(files[1]),
        "tests/docs/test_docs.py",
        "-k",
        "wave or refused or every",
    )
    (tiny,) = [command for command in commands(PAGE) if "debug=tiny" in command]
    run(*shlex.split(tiny)[1:], "run_dir=run", "logger=csv", "trainer.eval_every=0")
    assert re.search(r"name: sway", (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))

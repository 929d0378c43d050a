"""scripts/plot.py over a directory of runs: a curve a setting, called by what was swept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from plot import find

from dreamer.config.compose import parse
from dreamer.config.file import format_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep(tmp_path: Path, composed) -> Path:
    """Two learning rates with two seeds each, a job that failed, and one that has no episode yet."""
    jobs = [(lr, seed) for lr in ("1e-4", "4e-5") for seed in (0, 1)]
    for number, (lr, seed) in enumerate([*jobs, ("1e-4", 2)]):
        path = tmp_path / "lr" / str(number)
        path.mkdir(parents=True)
        config = parse(composed(f"model.optim.lr={lr}", f"seed={seed}", f"run_dir={path}"))
        (path / "config.yaml").write_bytes(format_config(config))
        if number < len(jobs):
            (path / "returns.csv").write_text("env_step,wall_seconds,return,length\n100,36,1,9\n200,72,2,9\n")
    (tmp_path / "lr" / "5").mkdir()
    (tmp_path / "lr" / "5" / "error.txt").write_text("too bad\n")
    return tmp_path / "lr"


def test_a_sweep_stands_for_its_runs_that_can_be_drawn(sweep, capsys):
    assert find([str(sweep)]) == ([sweep / name for name in "0123"], True)
    assert capsys.readouterr().out.splitlines() == [
        f"{sweep / name} is left out: no episode has ended there" for name in "45"
    ]
    assert find([str(sweep / "0"), str(sweep / "4")]) == ([sweep / "0", sweep / "4"], False), "named ones all count"


@pytest.mark.slow
def test_curves_of_a_sweep_are_called_by_their_settings(sweep, tmp_path):
    words = [f"runs=[{sweep}]", "out=lr.svg"]
    command = [sys.executable, str(ROOT / "scripts" / "plot.py"), *words]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    svg = (tmp_path / "lr.svg").read_text()
    assert "ours: lr=0.0001, 2 seeds" in svg and "ours: lr=4e-05, 2 seeds" in svg

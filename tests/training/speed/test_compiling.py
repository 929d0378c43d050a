"""torch.compile for acting and updates: the same numbers as without, and plain words where it cannot be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dreamer.training.speed import compiling
from dreamer.training.speed.compiling import choose_compile, missing_compiler


@pytest.mark.skipif(bool(missing_compiler()), reason="no C++ compiler")
@pytest.mark.parametrize(
    "explore",
    [pytest.param("policy", marks=pytest.mark.slow), pytest.param("disagreement", marks=pytest.mark.long)],
)
def test_compiled_update_and_policy_step_compute_what_the_plain_ones_do(explore):
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(root / "tests")])}
    script = [sys.executable, str(Path(__file__).with_name("compare_compiled.py")), explore]
    result = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


def test_auto_compiles_long_runs_alone(monkeypatch, capsys):
    monkeypatch.setattr(compiling, "missing_compiler", lambda: "")
    assert [choose_compile("auto", updates) for updates in (100.0, 1e6)] == [False, True]
    assert [choose_compile("on", 100.0), choose_compile("off", 1e6)] == [True, False]
    monkeypatch.setattr(compiling, "missing_compiler", lambda: "none was found")
    assert not choose_compile("auto", 1e6)
    assert "none was found" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"trainer.compile=on needs a C\+\+ compiler: none was found"):
        choose_compile("on", 1e6)

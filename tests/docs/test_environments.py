"""The environment that docs/environments.md walks through is trained as it stands there."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from dreamer.training.run import prepare

PAGE = Path(__file__).parents[2] / "docs" / "environments.md"


def test_the_robot_of_the_page_trains(tiny, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "my_robot.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ("env.kwargs.friction=0.3", "trainer.max_steps=800", "trainer.eval_every=0", "logger=csv")
    training = prepare(tiny("run_dir=run", "env=custom", "env.class=my_robot.Reach", *words))
    assert "observation  camera 64 x 64 x 3, speed 1; action: 1 in [-1, 1]" in capsys.readouterr().out
    training.fit()
    header, *rows = next((tmp_path / "run").rglob("metrics.csv")).read_text().splitlines()
    column = header.split(",").index("loss/camera")
    losses = [float(row.split(",")[column]) for row in rows if row.split(",")[column]]
    assert losses and all(math.isfinite(loss) for loss in losses)

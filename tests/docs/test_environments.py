"""The programs in docs/environments.md run as they stand there: an environment is trained, an agent plays."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

from dreamer.training.run import prepare

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
ROBOT, LOOP = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_robot_of_the_page_trains(tiny, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys):
    (tmp_path / "my_robot.py").write_text(ROBOT, encoding="utf-8")
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


def test_the_loop_of_the_page_walks(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(ROOT)
    exec(compile(LOOP, "docs/environments.md", "exec"), {})
    assert float(capsys.readouterr().out) > 700

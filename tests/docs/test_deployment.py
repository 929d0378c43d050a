"""The program in docs/deployment.md plays walker_walk as it stands there, with the file that the page exports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
WITHOUT = """
import sys
sys.modules.update(torch=None, dreamer=None)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_robot_of_the_page_walks_without_torch_and_without_this_package(tmp_path):
    words = ["checkpoint=results/walker_walk_state", "format=onnx", f"out={tmp_path / 'policy.onnx'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "scripts/export.py", *words]
    exported = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert exported.returncode == 0, exported.stderr
    assert "1,000 steps of walker_walk beside the agent: actions differ by " in exported.stdout
    played = subprocess.run([sys.executable, "-c", WITHOUT + EXAMPLE], cwd=tmp_path, capture_output=True, text=True)
    assert played.returncode == 0, played.stderr
    assert float(played.stdout) > 800, "random actions get about 40"


def test_the_program_is_as_short_as_it_says():
    assert len(EXAMPLE.splitlines()) <= 20
    imported = re.findall(r"^(?:import|from) (\w+)", EXAMPLE, flags=re.MULTILINE)
    assert imported == ["numpy", "onnxruntime", "dm_control"]

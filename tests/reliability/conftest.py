"""The shim, compiled once, and processes that have it before them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shim

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python with these arguments under the shim."""
    if reason := shim.why_not():
        pytest.skip(reason)
    library = shim.build(tmp_path_factory.mktemp("shim"))

    def preloaded(*words: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE)}
        return subprocess.run([sys.executable, *words], env=environ, text=True, capture_output=True)

    return preloaded


@pytest.fixture(scope="session")
def cut_off(preloaded: Callable[..., subprocess.CompletedProcess[str]]) -> Callable[..., list[dict[str, Any]]]:
    """crash_points.py with these words: its results, one for each config and mode."""

    def cut_off(*words: str) -> list[dict[str, Any]]:
        done = preloaded(str(HERE / "crash_points.py"), *words)
        lines = done.stdout.splitlines()
        assert lines and lines[-1].startswith("["), done.stdout + done.stderr
        print(*lines[:-1], sep="\n")
        return json.loads(lines[-1])

    return cut_off

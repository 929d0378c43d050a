import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def train_py(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python train.py <words>` in an empty directory."""

    def train_py(*words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *flags, str(ROOT / "train.py"), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    return train_py

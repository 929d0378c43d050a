"""scripts/dream.py: what it refuses, in a line, before anything slow starts. tests/viewer/ has what it shows."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from dreamer.config.schema import EnvConfig
from dreamer.viewer.start import check_drawing

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BLOCKED = """
import runpy, sys
sys.modules["uvicorn"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def dream_py(*words: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *before, str(ROOT / "scripts" / "dream.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "checkpoint has no value"),
        (["checkpoint=nowhere"], "checkpoint=nowhere does not exist."),
        (["checkpoint=nowhere", "viewers=0"], "viewers=0 must be at least 1"),
        (["checkpoint=nowhere", "port=70000"], "port=70000 must be at least 0 and at most 65535"),
        (["checkpoint=nowhere", "prot=1"], "unknown key 'prot'; nearest: port"),
    ],
)
def test_bad_input_ends_in_one_line(words, expected):
    result = dream_py(*words)
    assert result.returncode == 2 and result.stderr.startswith(f"error: {expected}"), result.stderr


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = dream_py("checkpoint=nowhere", f"port={port}")
    assert result.returncode == 2 and result.stderr.startswith(f"error: port={port} cannot be used: "), result.stderr


def test_without_the_extra_the_error_says_what_to_install():
    result = dream_py("checkpoint=nowhere", before=("-c", BLOCKED))
    assert result.returncode == 2, result.stderr
    assert 'needs the package uvicorn; pip install -c requirements.lock -e ".[web]"' in result.stderr


def test_the_control_suite_is_refused_on_macos_where_threads_may_not_draw():
    for system, suite, is_refused in (("darwin", "dmc", True), ("linux", "dmc", False), ("darwin", "dummy", False)):
        with pytest.raises(ValueError, match="macOS refuses") if is_refused else nullcontext():
            check_drawing(EnvConfig(suite=suite, name="any"), system)

import os
import subprocess
import sys
from typing import Any

import pytest

# No machine renders with these; on Linux, no screen and no EGL vendor stand for missing packages.
BROKEN = [("off", {})]
if sys.platform == "linux":
    BROKEN += [("glfw", {}), ("egl", {"__EGL_VENDOR_LIBRARY_FILENAMES": os.devnull})]

FIND = """
from dreamer.envs.drawing.backend import find_renderer
try:
    print(find_renderer())
except ValueError as error:
    print(error)
"""

PROPRIO = """
import numpy as np
from dreamer.envs.suites.dmc import DMC
env = DMC("walker_walk", "proprio", 2, 64, 0)
env.reset(0)
print(env.step(np.zeros(6, np.float32)).reward > 0, env.frame())
try:
    DMC("walker_walk", "vision", 2, 64, 0)
except ValueError as error:
    print("refused")
"""

DRAW = """
from dreamer.envs.suites.dmc import DMC
envs = [DMC("cartpole_balance", "vision", 1, 16, 0) for _ in range(2)]
for env in envs:
    env.reset(0)
envs[0].close()
"""


def run(code: str, mujoco_gl: str | None, **variables: str) -> subprocess.CompletedProcess:
    """A fresh process without a screen, since MUJOCO_GL is read once in each."""
    env = {key: value for key, value in os.environ.items() if key not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")}
    env = {key: value for key, value in env.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    if mujoco_gl is not None:
        env["MUJOCO_GL"] = mujoco_gl
    return subprocess.run([sys.executable, "-c", code], env={**env, **variables}, capture_output=True, text=True)


def assert_helps(message: str) -> None:
    assert len(message.splitlines()) == 2
    for word in ("libegl1", "libgl1-mesa-dri", "libosmesa6", "env.obs=proprio"):
        assert word in message


@pytest.mark.parametrize(("mujoco_gl", "variables"), BROKEN)
def test_without_a_renderer_the_error_says_what_to_do(mujoco_gl: str, variables: dict) -> None:
    result = run(FIND, mujoco_gl, **variables)
    assert result.stderr == ""
    assert_helps(result.stdout.strip())
    assert f"tried {mujoco_gl} (" in result.stdout and f"Unset MUJOCO_GL={mujoco_gl}, or" in result.stdout


@pytest.mark.parametrize(("mujoco_gl", "variables"), BROKEN[-1:])
def test_without_a_renderer_proprio_works_and_vision_is_refused(mujoco_gl: str, variables: dict) -> None:
    result = run(PROPRIO, mujoco_gl, **variables)
    assert (result.stdout.splitlines(), result.stderr) == (["True None", "refused"], "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one native renderer, not a list to try")
def test_without_egl_the_next_candidate_is_tried() -> None:
    result = run(FIND, None, __EGL_VENDOR_LIBRARY_FILENAMES=os.devnull)
    found = result.stdout.strip()
    if found != "osmesa":
        assert_helps(found)
        assert "egl (" in found and "osmesa (" in found


@pytest.mark.usefixtures("renderer")
def test_contexts_are_freed_without_a_word_at_exit() -> None:
    result = run(DRAW, os.environ.get("MUJOCO_GL"))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(("given", "used"), [({}, "0"), ({"LP_NUM_THREADS": "2"}, "2")])
def test_llvmpipe_draws_on_the_calling_thread_unless_told_otherwise(given: dict, used: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("LP_NUM_THREADS", raising=False)
    code = (
        "import os; from dreamer.envs.suites.dmc import task_names; task_names(); print(os.environ['LP_NUM_THREADS'])"
    )
    result = run(code, None, **given)
    assert result.stdout.split() == [used]


def test_what_the_user_set_is_what_is_used(renderer: str) -> None:
    result = run(FIND, renderer)
    assert (result.stdout.strip(), result.stderr) == (renderer, "")

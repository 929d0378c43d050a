"""Which OpenGL draws the pictures of a MuJoCo simulation, found out without drawing one here.

MuJoCo and dm_control read MUJOCO_GL once, when they are first imported, and an import that fails leaves the process
with half a driver loaded. So every candidate is tried in a process of its own before this one imports anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from textwrap import shorten
from typing import NamedTuple

PROBE_SECONDS = 60.0  # for all candidates together; half a second where the machine is not busy
NO_RENDERER = "off"

_PROBE = """
from dm_control import _render
import mujoco
renderer = _render.Renderer(16, 16)
with renderer.make_current() as thread:
    thread.call(mujoco.MjrContext, mujoco.MjModel.from_xml_string("<mujoco/>"), 100).free()
renderer.free()
"""


class Probe(NamedTuple):
    """The first backend that draws, None where none does, and why each of the others failed."""

    backend: str | None
    failures: tuple[str, ...]
    wish: str  # the user's MUJOCO_GL, empty if there was none


_probe: Probe | None = None  # of this process, which reads MUJOCO_GL once and so asks once


def find_renderer() -> str:
    """The backend for MUJOCO_GL that draws on this machine; ValueError, saying what to install, where none does."""
    probe = probe_renderers()
    if probe.backend is None:
        remedy = _remedy(probe)
        raise ValueError(
            f"env.obs: no way to render pictures; tried {'; '.join(probe.failures)}.\n"
            f"{remedy[0].upper()}{remedy[1:]}, or train without: env.obs=proprio."
        )
    return probe.backend


def choose_backend() -> None:
    """Set MUJOCO_GL to what works here. Call it before the first import of mujoco or dm_control.

    Where nothing draws it becomes "off", with which both import and simulate all the same. Mesa's renderer without a
    GPU is told, unless the user did, to draw on the calling thread: handing small pictures to threads of its own costs
    a tenth to a quarter more CPU time.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")
    os.environ["MUJOCO_GL"] = probe_renderers().backend or NO_RENDERER


def choose_backend_for_gymnasium() -> None:
    """`choose_backend` where the code of an environment has imported mujoco: gymnasium's own read MUJOCO_GL as they
    draw. It would refuse "off", so where nothing draws the user's word stays; see `why_nothing_draws`."""
    if "mujoco" in sys.modules and probe_renderers().backend is not None:
        choose_backend()


def why_nothing_draws() -> str | None:
    """What was tried and what to install, in a line, if this process looked for a backend and found none."""
    if _probe is None or _probe.backend is not None:
        return None
    return f"no way to render pictures; tried {'; '.join(_probe.failures)}; {_remedy(_probe)}"


def _remedy(probe: Probe) -> str:
    install = "install libegl1 and libgl1-mesa-dri, or libosmesa6 (Debian packages)"
    return f"unset MUJOCO_GL={probe.wish}, or {install}" if probe.wish else install


def probe_renderers() -> Probe:
    """The answer of this process: what it was told, or else found when it was first asked."""
    global _probe
    if _probe is None:
        _probe = _try_candidates()
    return _probe


def known_probe() -> Probe | None:
    """The answer of this process, None where it was not asked yet; for `adopt` in a process that it starts."""
    return _probe


def adopt(probe: Probe | None) -> None:
    """Draw as the process that started this one, instead of trying all over again."""
    global _probe
    _probe = probe


def _try_candidates() -> Probe:
    """Try them in order, within PROBE_SECONDS."""
    deadline, failures = time.monotonic() + PROBE_SECONDS, []
    wish = os.environ.get("MUJOCO_GL", "").strip().lower()
    for backend in _candidates():
        failure = _try_backend(backend, deadline - time.monotonic())
        if failure is None:
            return Probe(backend, tuple(failures), wish)
        failures.append(f"{backend} ({failure})")
    return Probe(None, tuple(failures), wish)


def _candidates() -> tuple[str, ...]:
    loaded = sys.modules.get("dm_control._render")
    if loaded is not None:  # somebody imported dm_control before us: its choice is final
        return (loaded.BACKEND or NO_RENDERER,)
    if wish := os.environ.get("MUJOCO_GL", "").strip().lower():
        return (wish,)
    if sys.platform != "linux":
        return ("glfw",)  # the native default of Windows and macOS
    has_screen = "DISPLAY" in os.environ or "WAYLAND_DISPLAY" in os.environ
    return ("egl", "osmesa", "glfw") if has_screen else ("egl", "osmesa")


def _try_backend(backend: str, seconds: float) -> str | None:
    """None if a drawing context can be made with this MUJOCO_GL, else the reason in a few words."""
    if seconds <= 0:
        return "no time left"
    try:
        subprocess.run(
            [sys.executable, "-c", _PROBE],
            env={**os.environ, "MUJOCO_GL": backend},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=True,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {seconds:.0f} s"
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        return shorten(lines[-1], 80, placeholder=" ...")
    return None

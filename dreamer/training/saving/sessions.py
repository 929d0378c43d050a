"""sessions.jsonl: where and with which code each start of a run computed, a line for each."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from dreamer.training.saving.disk import write_whole

SESSIONS_FILE = "sessions.jsonl"
ROOT = Path(__file__).parents[3]
CODE = ("dreamer", "conf", "scripts", "train.py")
PACKAGES = ("torch", "lightning", "numpy", "mujoco", "dm_control")


def add_session(run_dir: Path, env_step: int, device: str, threads: int) -> None:
    """One line more: the start of a session at `env_step`, `device` as torch or its maker calls it.

    Lines that a stranger or a fault left without an end are dropped.
    """
    path = run_dir / SESSIONS_FILE
    before, _, _ = path.read_bytes().rpartition(b"\n") if path.exists() else (b"", b"", b"")
    session = {
        "started": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        "env_step": env_step,
        **describe_machine(),
        "device": device,
        "threads": threads,
        "commit": commit(),
        "versions": versions(),
    }
    line = json.dumps(session).encode() + b"\n"
    write_whole(path, before + b"\n" + line if before else line)


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory (GB) and system."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
    }


def cpu_name() -> str:
    """The processor as its maker calls it, or what Python knows of it."""
    name = ""
    with suppress(OSError, subprocess.SubprocessError):
        if sys.platform == "linux":
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
        elif sys.platform == "darwin":
            name = output_of("sysctl", "-n", "machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def versions() -> dict[str, str | None]:
    """Python's and those of the packages that do the work; None for one that is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def commit() -> str | None:
    """The commit of this code, with -dirty where CODE differs; None where it lies in no repository of its own."""
    if not (ROOT / ".git").exists():  # installed somewhere, perhaps inside of another repository
        return None
    try:
        head = output_of("git", "rev-parse", "HEAD")
        changes = output_of("git", "--no-optional-locks", "status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changes else head


def output_of(*command: str) -> str:
    """What a short command prints, run where this code lies; OSError or SubprocessError where it fails or hangs."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()

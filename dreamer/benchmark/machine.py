"""What a measurement depends on besides the code: the machine, the versions, and which code it was."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from dreamer.data.storage import available_memory
from dreamer.training.speed.device import synchronize

ROOT = Path(__file__).parents[2]
CODE = ("dreamer", "conf", "scripts", "train.py")
PACKAGES = ("torch", "lightning", "numpy", "mujoco", "dm_control")
SHAPES = ((1024, 640, 640), (2048, 2048, 2048))  # rows, inner, columns: about what an update multiplies, and large
SHAPES_ON_GPU = ((8192, 8192, 8192),)  # smaller ones do not fill it


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory (GB), system, load when asked, and what torch does by default."""
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "memory_available_gb": round(available_memory() / 1e9, 1),
        "system": platform.platform(),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def cpu_name() -> str:
    """The processor as its maker calls it, or what Python knows of it."""
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return platform.processor() or platform.machine()


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
    """The commit of this code, with -dirty where CODE differs from it; None outside a git repository."""
    try:
        head, changes = (
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--", *CODE))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty" if changes else head


def matrix_speed(dtype: torch.dtype, device: torch.device, seconds: float = 0.3) -> float:
    """GFLOP a second of a matrix product with torch's present number of threads: the fastest of some shapes (above)."""
    fastest = 0.0
    for rows, inner, columns in SHAPES_ON_GPU if device.type == "cuda" else SHAPES:
        left = torch.randn(rows, inner, dtype=dtype, device=device)
        right = torch.randn(inner, columns, dtype=dtype, device=device)
        torch.mm(left, right)  # the first one takes longer
        gflop, end = 2 * rows * inner * columns / 1e9, time.perf_counter() + seconds
        while time.perf_counter() < end:
            synchronize(device)
            start = time.perf_counter()
            torch.mm(left, right)
            synchronize(device)
            fastest = max(fastest, gflop / (time.perf_counter() - start))
    return fastest

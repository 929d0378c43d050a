"""The machine that a measurement is of, and how fast it multiplies."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import psutil
import torch

from dreamer.data.storage import available_memory
from dreamer.training.saving.sessions import describe_machine
from dreamer.training.speed.device import device_name, synchronize

SHAPES = ((1024, 640, 640), (2048, 2048, 2048))  # rows, inner, columns: about what an update multiplies, and large
SHAPES_ON_GPU = ((8192, 8192, 8192),)  # smaller ones do not fill it


def machine(device: torch.device) -> dict[str, Any]:
    """Processor, cores, memory (GB), system, load when asked, and what torch does by default."""
    return {
        **describe_machine(),
        "cores_usable": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "memory_available_gb": round(available_memory() / 1e9, 1),
        "load_average": [round(load, 2) for load in psutil.getloadavg()],
        "device": device_name(device),
        "torch_threads": torch.get_num_threads(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


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

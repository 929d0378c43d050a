"""How many CPU threads an update computes with. Threads that outnumber the cores spin and wait for each other."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import torch

MOST_THREADS = 8  # beyond it operators of these sizes gain little, and have to wait for the slowest thread


def choose_threads(wish: int, overlap: bool, processes: int = 1) -> int:
    """trainer.threads; for 0 this process's share of the physical cores, with `overlap` less the one on which
    environments step beside the update, and not more than MOST_THREADS or OMP_NUM_THREADS."""
    if wish:
        return wish
    word = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    most = int(word) if word.isdecimal() and int(word) else MOST_THREADS
    return max(1, min(MOST_THREADS, most, free_cores() // processes - int(overlap)))


def use_threads(number: int) -> None:
    """Compute with so many threads when called from this thread.

    A thread takes over what any thread of the process set last, once, when it first asks or computes: so ask first.
    """
    torch.get_num_threads()
    torch.set_num_threads(number)


def free_cores(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Physical cores that this process may use: of the machine, its affinity, and a container's quota the least."""
    logical = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    limits = [psutil.cpu_count(logical=False) or logical, allowed]
    try:
        quota, period = (group / "cpu.max").read_text().split()
        limits.append(int(quota) // int(period))
    except (OSError, ValueError):  # no control groups, or the word "max"
        pass
    return max(1, min(limits))

"""How long something takes: medians of wall and CPU seconds, measured in turns, and the most memory it held."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, TypeVar

Name = TypeVar("Name", bound=Hashable)

LEAST_SECONDS = 0.05  # of one sample; Windows counts CPU time in steps of 0.016 s


class Budget(NamedTuple):
    """How long to measure: until `seconds` have passed, and for `rounds` samples of each function in any case."""

    seconds: float
    rounds: int


class Timing(NamedTuple):
    """Wall and CPU seconds of one call. CPU seconds count all threads of the process."""

    seconds: float
    cpu_seconds: float


def timed(function: Callable[[], object], calls: int = 1) -> Timing:
    """One sample: the mean of `calls` calls in a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(calls):
        function()
    return Timing((time.perf_counter() - wall) / calls, (time.process_time() - cpu) / calls)


def interleaved(functions: Mapping[Name, Callable[[], object]], budget: Budget) -> dict[Name, Timing]:
    """Medians for each function. They take turns, forwards and backwards, so that a slow moment meets them all.

    A first call of each is not counted: caches fill, memory is taken, code is compiled. Where a call is short, a
    sample is the mean of as many as fill LEAST_SECONDS.
    """
    calls = {name: _calls(function) for name, function in functions.items()}
    samples: dict[Name, list[Timing]] = {name: [] for name in functions}
    order, end, rounds = list(functions), time.perf_counter() + budget.seconds, 0
    while rounds < budget.rounds or time.perf_counter() < end:
        for name in order:
            samples[name].append(timed(functions[name], calls[name]))
        order.reverse()
        rounds += 1
    return {name: medians(of) for name, of in samples.items()}


def medians(samples: list[Timing]) -> Timing:
    """The median of each column; of an even number, the mean of the middle two."""
    wall, cpu = zip(*samples, strict=True)
    return Timing(median(wall), median(cpu))


def best(timings: Mapping[Name, Timing]) -> Name:
    """The one that takes the least wall time."""
    return min(timings, key=lambda name: timings[name].seconds)


def fresh_process() -> ProcessPoolExecutor:
    """One worker in an interpreter of its own: no memory, threads or OpenGL of this one. Made alike on every system.

    It ends when this process does, killed or not.
    """
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    with fresh_process() as pool:
        return pool.submit(function, *arguments).result()


def _end_with_parent() -> None:
    def wait() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def peak_memory() -> int:
    """The most bytes that this process has held so far (resident)."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":  # ru_maxrss would begin with what the parent held
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.split("VmHWM:")[1].split()[0])
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _calls(function: Callable[[], object]) -> int:
    seconds = timed(function).seconds
    if seconds < 20 * LEAST_SECONDS:  # the first call may be the slow one
        seconds = timed(function).seconds
    return max(1, math.ceil(LEAST_SECONDS / max(seconds, 1e-9)))

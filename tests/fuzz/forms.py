"""Two forms of each fuzz test: a quick one with the same few cases each time, and a long one with 10,000.

The long form draws other cases every day: its seed is the date. FUZZ_SEED=20261130 draws those of another day again,
FUZZ_CASES=500 another number of them. What fails is printed and becomes an @example, with which both forms begin.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

SEED = int(os.environ.get("FUZZ_SEED") or time.strftime("%Y%m%d"))
CASES = int(os.environ.get("FUZZ_CASES") or 10_000)
COMMON: dict[str, Any] = {
    "database": None,  # what is to be tried again stands in the test
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}


def fuzzed(quick: int, *strategies: Any, share: float = 1.0) -> Callable[[Any], Any]:
    """Makes a test of a function of what these strategies draw: `quick` cases, and in its module a long one beside it
    with all of them, or a share of these where each takes long."""

    def decorate(function: Any) -> Any:
        long = settings(max_examples=round(CASES * share), **COMMON)(seed(SEED)(given(*strategies)(function)))
        for mark in (pytest.mark.long, pytest.mark.timeout(0)):
            long = mark(long)
        function.__globals__[f"{function.__name__}__in_the_long_form"] = long
        return settings(max_examples=quick, derandomize=True, **COMMON)(given(*strategies)(function))

    return decorate

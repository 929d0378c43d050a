"""Two forms of each fuzz test: a quick one with the same few cases each time, and a long one with new cases.

FUZZ=long runs 10,000 cases of each, from a seed that is printed; FUZZ_SEED=<that number> draws the same ones again,
FUZZ_CASES another number of them. What fails is printed and becomes an @example, which both forms begin with.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, seed, settings

IS_LONG = os.environ.get("FUZZ") == "long"
SEED = int(os.environ.get("FUZZ_SEED", time.time_ns() % 10**6))
CASES = int(os.environ.get("FUZZ_CASES", 10_000))


def fuzzed(quick: int) -> Callable[[Any], Any]:
    """For a test with @given: `quick` cases, or those of the long form."""
    form = settings(
        max_examples=CASES if IS_LONG else quick,
        derandomize=not IS_LONG,
        database=None,  # what is to be tried again stands in the test
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: form(seed(SEED)(test) if IS_LONG else test)

"""The verdict of a soak: it names what grows, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from soak import HELD, across, trend, verdict

MINUTES = np.arange(3, 10)


def samples(leak: str = "", an_hour: float = 0.0, between: float = 0.0) -> list[dict[str, float]]:
    """Twelve sessions of ten minutes with a sample a minute, and a little noise around 100."""
    random = np.random.default_rng(0)
    rows = []
    for session in range(12):
        for minute in MINUTES:
            held = {name: 100 + 0.1 * random.standard_normal() for name in (*HELD, "logs_mb")}
            held |= {"processes": 3.0}
            row = {"seconds": 60.0 * (10 * session + minute), "session": float(session), "age": 60.0 * minute, **held}
            if leak:
                row[leak] += an_hour * minute / 60 + between * session / 6
            rows.append(row)
    return rows


def grown(rows: list[dict[str, float]]) -> list[str]:
    return [line.split(" sessions")[0] for line in verdict(rows, 180.0) if line.endswith("GROWS")]


def test_noise_is_no_growth():
    assert grown(samples()) == []


@pytest.mark.parametrize("name", ["rss_mb", "files", "threads", "replay_mb", "processes"])
def test_a_leak_inside_of_sessions_is_named(name):
    assert f"{name} within" in grown(samples(name, an_hour=30.0))


def test_what_is_left_from_one_session_to_the_next_is_named():
    assert grown(samples("saved_mb", between=10.0)) == ["saved_mb across"]


def test_slopes_are_those_that_were_put_in():
    rows = samples("maps", an_hour=30.0, between=20.0)
    assert trend(rows, "maps")[1] == pytest.approx(30.0, abs=2)
    assert across(rows, "maps")[1] == pytest.approx(20.0, abs=1)


def test_nothing_is_said_of_what_was_not_measured():
    assert "GROWS" in verdict([], 180.0)[0]

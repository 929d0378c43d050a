"""A run that is killed, or out of room, at any of its writes and restarted equals one that never was, bit for bit."""

from __future__ import annotations

import time

import pytest
from crash_points import CONFIGS

EVERY = 16  # of the long form: all points of all configs take hours (python tests/reliability/crash_points.py)


def check(results: list[dict], least: int) -> None:
    assert [fault for result in results for fault in result["faults"]] == []
    assert sum(result["tried"] for result in results) >= least, results


@pytest.mark.parametrize("config", ["ram_one_full", "disk_two_full"])
def test_run_cut_off_at_a_few_of_its_writes_and_restarted_equals_a_whole_one(cut_off, config):
    check(cut_off(f"configs={config}", "modes=kill,half,full,again", "tries=4"), least=16)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("config", CONFIGS)
def test_run_cut_off_at_any_of_its_writes_and_restarted_equals_a_whole_one(cut_off, config):
    offset = int(time.time() / 86400) % EVERY  # other points every day; it is printed with the results
    check(cut_off(f"configs={config}", f"every={EVERY}", f"offset={offset}", "tries=40"), least=20)

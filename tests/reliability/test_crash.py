"""A run that is killed, or out of room, at any of its writes and restarted equals one that never was, bit for bit."""

from __future__ import annotations

import time

import pytest
from crash_points import CONFIGS


def check(results: list[dict], least: int) -> None:
    assert [fault for result in results for fault in result["faults"]] == []
    assert sum(result["tried"] for result in results) >= least, results


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ram_one_full", "disk_two_full"])
def test_run_cut_off_at_a_few_of_its_writes_and_restarted_equals_a_whole_one(cut_off, config):
    check(cut_off(f"configs={config}", "modes=kill,half,full,again", "tries=3", "thin=1"), least=12)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("config", CONFIGS)
def test_run_cut_off_at_any_of_its_writes_and_restarted_equals_a_whole_one(cut_off, config):
    """Some of them, others every day (the offset is printed with the results): all of them take most of a day."""
    offset = int(time.time() / 86400)
    check(cut_off(f"configs={config}", "tries=12", "thin=1", f"offset={offset}"), least=40)

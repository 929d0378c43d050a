"""A run that is stopped after any of its updates and restarted equals one that never was, bit for bit."""

from __future__ import annotations

import pytest
from crash_points import CONFIGS, OTHERS


@pytest.mark.slow
@pytest.mark.parametrize("config", ["ram_one_full", "disk_two_full"])
def test_run_stopped_at_some_of_its_updates_equals_a_whole_one(cut_off, config):
    (result,) = cut_off(f"configs={config}", "modes=stop", "tries=5")
    assert result["faults"] == [] and result["tried"] == 5


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("config", [*CONFIGS, *OTHERS])
def test_run_stopped_at_every_update_equals_a_whole_one(cut_off, config):
    (result,) = cut_off(f"configs={config}", "modes=stop", "steps=640")
    assert result["faults"] == [] and result["tried"] == result["updates"] > 35

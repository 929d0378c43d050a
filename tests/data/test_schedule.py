"""Updates per policy step."""

from __future__ import annotations

import pytest

from dreamer.data.schedule import TrainRatio


@pytest.mark.parametrize("ratio", [1024.0, 512.0, 100.0, 32.0, 3.0, 4096.0])
@pytest.mark.parametrize("stride", [1, 4, 16])
def test_trained_rows_follow_policy_steps_without_drift(ratio: float, stride: int) -> None:
    schedule = TrainRatio(ratio, 1024)
    updates = [schedule(step) for step in range(1040, 1040 + 20_000, stride)]
    assert updates[0] == 1
    assert sum(updates[1:]) == int((len(updates) - 1) * stride * ratio / 1024)


def test_restored_schedule_carries_the_remainder_on() -> None:
    one, other = TrainRatio(300.0, 1024), TrainRatio(300.0, 1024)
    for step in range(17):
        one(step)
    other.load_state_dict(one.state_dict())
    assert [one(step) for step in range(17, 60)] == [other(step) for step in range(17, 60)]


def test_the_first_steps_have_a_ratio_of_their_own() -> None:
    # Three updates in two steps, early three in eight.
    schedule = TrainRatio(96.0, 64, early_ratio=24.0, early_steps=1000)
    updates = {step: schedule(step) for step in range(40, 2000, 2)}
    assert updates.pop(40) == 1
    assert sum(n for step, n in updates.items() if step <= 1000) == 960 * 24 // 64
    assert sum(updates.values()) == (960 * 24 + 998 * 96) // 64
    assert schedule.most_updates(1998) == pytest.approx(1 + (1000 * 24 + 998 * 96) / 64)


def test_steps_until_due_change_with_the_ratio() -> None:
    schedule = TrainRatio(64.0, 64, early_ratio=16.0, early_steps=100)
    assert schedule(80) == 1
    assert schedule.steps_until_due(80, 1) == 4 and schedule(84) == 1
    assert [schedule.steps_until_due(step, 1) for step in (84, 98, 99)] == [4, 1, 1]  # steps after 84 unpaid: 14/4

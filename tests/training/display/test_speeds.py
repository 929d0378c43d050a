"""Speeds and times left."""

from __future__ import annotations

import math

import pytest

from dreamer.training.display import speeds
from dreamer.training.display.speeds import Speed, duration, hours_left


@pytest.fixture
def clock(monkeypatch):
    """The time that Speed reads; assign to clock[0]."""
    now = [100.0]
    monkeypatch.setattr(speeds.time, "monotonic", lambda: now[0])
    return now


def test_speed_is_of_the_last_minute_and_unknown_at_first(clock):
    speed = Speed(seconds=60.0)
    speed.mark(0, 0)
    assert (speed.env_steps, speed.updates) == (0.0, 0.0)
    for second in range(1, 201):  # 20 steps and 2 updates a second, and from second 100 on twice as many
        clock[0] = 100.0 + second
        fast = max(second - 100, 0)
        speed.mark(20 * (second + fast), 2 * (second + fast))
    assert (speed.env_steps, speed.updates) == (pytest.approx(40), pytest.approx(4))
    assert len(speed.marks) <= 62
    speed.forget()
    assert speed.env_steps == 0.0


def test_time_left_follows_from_the_speed_and_the_updates_to_come(tiny, clock):
    words = ["trainer.max_steps=8000", "trainer.train_ratio=32", "trainer.early_ratio=8", "trainer.early_steps=1000"]
    config, speed = tiny(*words), Speed()
    assert math.isinf(hours_left(config, 0, speed))
    speed.mark(0, 0)
    clock[0] += 10
    speed.mark(100, 1)  # 10 environment steps a second
    speed.update_share = 0.6
    # The first 4,000 environment steps have a fourth of the updates: 3,200 steps at 10 a second, then each takes 0.04 s
    # for collection, as now, and 0.24 for updates.
    assert hours_left(config, 800, speed) == pytest.approx((320 + 4000 * 0.28) / 3600)
    assert hours_left(config, 4800, speed) == pytest.approx(320 / 3600)
    assert hours_left(config, 9000, speed) == 0.0


@pytest.mark.parametrize(
    ("hours", "shown"), [(math.inf, "?"), (0.5, "30 min"), (1.0, "1.0 h"), (47.0, "47.0 h"), (72.0, "3.0 days")]
)
def test_durations_read_well(hours, shown):
    assert duration(hours) == shown

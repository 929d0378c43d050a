"""The slow critic and the return range: by hand, and after a state_dict round trip."""

import copy

import pytest
import torch
from torch import nn

from dreamer.behavior.actor_critic import PercentileRange, SlowCopy


def numbers(source: nn.Module) -> list[float]:
    return [p.item() for p in source.parameters()]


def scalar(value: float) -> nn.Module:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_slow_copy_starts_equal_stays_apart_and_follows() -> None:
    fast = scalar(8.0)
    slow = SlowCopy(fast, rate=0.25)
    assert not any(p.requires_grad for p in slow.parameters())
    nn.init.constant_(fast.weight, 16.0)
    assert numbers(slow.module) == [8.0]
    slow.track(fast)
    assert numbers(slow.module) == [10.0]  # 0.25 * 16 + 0.75 * 8
    slow.track(fast)
    assert numbers(slow.module) == [11.5]
    assert numbers(fast) == [16.0]


def test_slow_copy_keeps_its_rhythm_through_a_state_dict() -> None:
    fast = scalar(16.0)
    slow = SlowCopy(scalar(8.0), rate=0.5, every=3)
    seen = []
    for call in range(7):
        if call == 2:  # in the middle of a cycle
            state = copy.deepcopy(slow.state_dict())
            slow = SlowCopy(scalar(0.0), rate=0.5, every=3)
            slow.load_state_dict(state)
        slow.track(fast)
        seen += numbers(slow.module)
    assert seen == [12.0, 12.0, 12.0, 14.0, 14.0, 14.0, 15.0]


def test_return_range_by_hand() -> None:
    x = torch.arange(101.0)  # percentiles 5 and 95 are 5 and 95
    tracker = PercentileRange(rate=0.1)
    tracker.update(x)
    low, scale = tracker.low_and_scale()
    assert (low.item(), scale.item()) == (0.5, 9.0)
    tracker.update(x)  # 0.9 * 0.5 + 0.1 * 5, 0.9 * 9.5 + 0.1 * 95
    torch.testing.assert_close(tracker.range, torch.tensor([0.95, 18.05]))


def test_scale_is_never_below_its_limit_so_that_small_returns_are_not_blown_up() -> None:
    tracker = PercentileRange(rate=1.0, limit=1.0)
    tracker.update(torch.full((10,), 3.0))
    low, scale = tracker.low_and_scale()
    assert (low.item(), scale.item()) == (3.0, 1.0)


@pytest.mark.parametrize(
    "low, high, share, scale",
    [
        (40.0, 44.0, 0.5, 22.0),  # half of 44
        (-60.0, 3.0, 0.5, 63.0),  # the range is larger than half of 60
        (-60.0, -58.0, 0.5, 30.0),  # the size is that of -60
        (0.2, 0.4, 0.5, 1.0),  # the limit holds
        (40.0, 44.0, 0.0, 4.0),  # the paper's
    ],
)
def test_scale_is_never_below_a_share_of_the_returns_own_size(low, high, share, scale) -> None:
    tracker = PercentileRange(rate=1.0, low=0.0, high=100.0, share=share)
    tracker.update(torch.linspace(low, high, 7))
    torch.testing.assert_close(tracker.low_and_scale(), (torch.tensor(low), torch.tensor(scale)))


def test_return_range_continues_after_a_state_dict() -> None:
    straight = PercentileRange()
    xs = 5 * torch.randn(6, 40)
    for x in xs[:3]:
        straight.update(x)
    resumed = PercentileRange()
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    for x in xs[3:]:
        straight.update(x)
        resumed.update(x)
    assert torch.equal(torch.stack(straight.low_and_scale()), torch.stack(resumed.low_and_scale()))


def test_what_was_read_does_not_change_with_the_next_update() -> None:
    tracker = PercentileRange(rate=0.5)
    tracker.update(torch.arange(10.0))
    low, _ = tracker.low_and_scale()
    before = low.item()
    tracker.update(100 + torch.arange(10.0))
    assert low.item() == before

"""When scalars are due, and what a loss that is not finite is blamed on."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import build_agent, build_batch

from dreamer.training.display.run_log import Every, check_finite
from dreamer.types import Batch


def test_every_is_true_once_for_each_multiple_that_is_passed():
    due = Every(10)
    assert [count for count in range(0, 45, 3) if due(count)] == [12, 21, 30, 42]
    assert due(95) and not due(99), "several at once count as one"
    assert not any(Every(0)(count) for count in range(100))


def test_every_goes_on_where_it_stood():
    due = Every(10)
    due.last = 25
    assert [count for count in range(25, 42) if due(count)] == [30, 40]


def batch_with(**columns: torch.Tensor) -> Batch:
    agent = build_agent()
    batch = build_batch(agent)
    return batch._replace(obs={**batch.obs, **{key: value for key, value in columns.items() if key in batch.obs}},
                          **{key: value for key, value in columns.items() if key not in batch.obs})  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "shown"),
    [
        (None, "lower rates"),
        ({}, "lower rates"),
        ({"reward": torch.full((2, 6), math.inf)}, "since reward of its batch holds values that are not finite"),
        ({"pose": torch.full((2, 6, 2, 3), math.nan)}, "since obs.pose of its batch holds values that are not finite"),
        ({"context_deter": torch.full((2, 24), math.nan)}, "lower rates"),  # the model's own
    ],
)
def test_rates_are_blamed_only_where_the_batch_was_sound(batch, shown):
    metrics = {"loss/total": math.nan, "grad/norm": 1.0}
    with pytest.raises(FloatingPointError, match="loss/total is nan at update 7") as caught:
        check_finite(metrics, 7, None if batch is None else batch_with(**batch))
    assert shown in str(caught.value)
    assert ("lower rates" in str(caught.value)) == (shown == "lower rates")

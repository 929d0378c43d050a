"""Two ranks compute what one does."""

from __future__ import annotations

import pytest
import torch
from rank_updates import updated

from dreamer import ranks

pytestmark = pytest.mark.slow  # processes that import torch


def largest_difference(a, b) -> float:
    """Of two sets of tensors, relative to the largest entry of each."""
    return max(float((a[key].double() - b[key].double()).abs().max() / b[key].abs().max().clamp(min=1e-8)) for key in b)


def test_two_ranks_learn_what_one_does_from_the_same_rows(tmp_path):
    (one,), two = updated(1, tmp_path, 300), updated(2, tmp_path, 300)
    assert one["first"].keys() == two[0]["first"].keys() and len(one["first"]) > 50
    assert largest_difference(two[0]["first"], one["first"]) < 1e-5  # seen: 1.3e-6
    assert all(torch.equal(two[0]["agent"][key], two[1]["agent"][key]) for key in one["agent"])
    assert largest_difference(two[0]["agent"], one["agent"]) < 1e-3  # seen: 3.3e-5


def test_buckets_hold_every_tensor_once_and_in_order(monkeypatch):
    monkeypatch.setattr(ranks, "BUCKET_NBYTES", 40)
    sizes = [3, 4, 3, 1, 20, 2]
    tensors = [torch.zeros(n) for n in sizes] + [torch.zeros(2, dtype=torch.float64)]
    found = [[tensor.numel() for tensor in bucket] for bucket in ranks.buckets(tensors)]
    assert found == [[3, 4, 3], [1], [20], [2], [2]]

"""symlog, its inverse, and two-hot targets on five bins by hand."""

import math

import pytest
import torch
from torch import Tensor

from dreamer.ops.symlog import symexp, symexp_bins, symlog, two_hot_loss, two_hot_mean

BINS = torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])
LOGITS = torch.tensor([0.3, -1.2, 0.7, 2.0, -0.4])


def expected_loss(weights: list[float]) -> Tensor:
    return -(torch.tensor(weights) * torch.log_softmax(LOGITS, -1)).sum()


def test_symlog_of_known_values() -> None:
    x = torch.tensor([0.0, math.e - 1, 1 - math.e, math.e**3 - 1])
    torch.testing.assert_close(symlog(x), torch.tensor([0.0, 1.0, -1.0, 3.0]))


def test_symexp_inverts_symlog_over_many_magnitudes() -> None:
    x = torch.logspace(-6, 8, 60, dtype=torch.float64)
    x = torch.cat([-x, torch.zeros(1, dtype=torch.float64), x])
    torch.testing.assert_close(symexp(symlog(x)), x, rtol=1e-12, atol=0)


def test_bins_are_equidistant_in_symlog_space_and_hold_zero() -> None:
    bins = symexp_bins(255)
    assert bins[127] == 0
    torch.testing.assert_close(symlog(bins.double()).diff(), torch.full((254,), 20 / 127).double(), rtol=1e-4, atol=0)
    torch.testing.assert_close(bins[-1], torch.tensor(math.exp(20) - 1))


@pytest.mark.parametrize(
    ("target", "weights"),
    [
        (-1.0, [0, 1, 0, 0, 0]),  # on a bin
        (0.0, [0, 0, 1, 0, 0]),
        (3.0, [0, 0, 0, 0, 1]),  # on the last
        (2.5, [0, 0, 0, 0.25, 0.75]),  # three quarters of the way from 1 to 3, in raw space
        (-1.5, [0.25, 0.75, 0, 0, 0]),
        (0.1, [0, 0, 0.9, 0.1, 0]),
        (100.0, [0, 0, 0, 0, 1]),  # out of range
        (-3.01, [1, 0, 0, 0, 0]),
    ],
)
def test_target_is_spread_over_its_two_neighbours(target: float, weights: list[float]) -> None:
    loss = two_hot_loss(LOGITS, torch.tensor(target), BINS)
    torch.testing.assert_close(loss, expected_loss(weights))


def test_no_gradient_reaches_the_target_and_logits_get_softmax_minus_target() -> None:
    logits, target = LOGITS.clone().requires_grad_(), torch.tensor(2.5, requires_grad=True)
    two_hot_loss(logits, target, BINS).backward()
    assert target.grad is None
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.softmax(LOGITS, -1) - torch.tensor([0, 0, 0, 0.25, 0.75]))


def test_the_mean_of_a_perfect_prediction_is_the_target() -> None:
    bins = symexp_bins(255)
    for target in (-2000.0, -0.05, 0.0, 0.3, 7.7, 12345.0):
        logits = torch.zeros(255, requires_grad=True)
        two_hot_loss(logits, torch.tensor(target), bins).backward()
        assert logits.grad is not None
        two_hot = torch.softmax(torch.zeros(255), -1) - logits.grad  # the gradient is softmax - two-hot
        mean = two_hot_mean(two_hot.clamp(min=1e-30).log(), bins)
        torch.testing.assert_close(mean, torch.tensor(target), rtol=1e-4, atol=1e-4)


def test_symmetric_logits_predict_exactly_zero() -> None:
    half = torch.randn(4, 127)
    logits = torch.cat([half, torch.randn(4, 1), half.flip(-1)], -1)
    assert torch.equal(two_hot_mean(logits, symexp_bins(255)), torch.zeros(4))


def test_shapes_of_any_rank_pass() -> None:
    target = torch.randn(2, 3, 4)[:, ::2]  # not contiguous
    loss = two_hot_loss(torch.randn(2, 2, 4, 5), target, BINS)
    assert loss.shape == (2, 2, 4)
    assert torch.isfinite(loss).all()

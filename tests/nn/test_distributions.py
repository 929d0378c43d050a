"""Sampling, straight-through gradients, and the action distributions against those of torch."""

import math

import pytest
import torch
from torch.distributions import Categorical, Normal, TanhTransform, TransformedDistribution

from dreamer.nn.distributions import (
    DiscreteAction,
    NormalAction,
    TanhNormalAction,
    sample_index,
    sample_normal,
    straight_through,
    unimix_log_probs,
)
from dreamer.nn.heads import ActorHead
from dreamer.types import Space


def test_classes_are_drawn_as_often_as_their_probabilities_say() -> None:
    probs = torch.tensor([0.0, 0.5, 0.3, 0.0, 0.15, 0.05])
    counts = torch.bincount(sample_index(probs.expand(20_000, 6)), minlength=6)
    assert counts[probs == 0].sum() == 0
    expected = 20_000 * probs[probs > 0]
    chi_square = ((counts[probs > 0] - expected) ** 2 / expected).sum()
    assert chi_square < 16.3  # 3 degrees of freedom: 0.1 %


def test_groups_are_drawn_independently() -> None:
    index = sample_index(torch.full((20_000, 2, 2), 0.5))
    # Two fair coins agree in half of the draws; the standard deviation of that share is 0.0035.
    assert (index[:, 0] == index[:, 1]).float().mean().item() == pytest.approx(0.5, abs=0.015)


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, 0), (1 - 2**-24, 2)])
def test_extreme_random_numbers_stay_in_range(threshold: float, expected: int) -> None:
    probs = torch.tensor([0.3, 0.3, 0.3999])  # rounding can leave the sum below the largest random number
    assert sample_index(probs.expand(4, 3), torch.full((4,), threshold)).tolist() == [expected] * 4


def test_straight_through_is_one_hot_with_the_gradient_of_the_mixed_probabilities() -> None:
    logits, weight = torch.randn(5, 3, 4, requires_grad=True), torch.randn(5, 3, 4)
    sample = straight_through(logits, 0.1)
    assert torch.equal(sample.detach().unique(), torch.tensor([0.0, 1.0]))
    assert torch.equal(sample.detach().sum(-1), torch.ones(5, 3))
    (grad,) = torch.autograd.grad((sample * weight).sum(), logits)
    (expected,) = torch.autograd.grad((unimix_log_probs(logits, 0.1).exp() * weight).sum(), logits)
    torch.testing.assert_close(grad, expected)


def test_normal_samples_have_their_mean_and_deviation() -> None:
    mean, std = torch.tensor([-0.7, 0.4]), torch.tensor([0.2, 0.9])
    sample = sample_normal(mean.expand(20_000, 2), std.expand(20_000, 2))
    torch.testing.assert_close(sample.mean(0), mean, rtol=0, atol=0.03)
    torch.testing.assert_close(sample.std(0), std, rtol=0.03, atol=0)


def test_action_samples_carry_no_gradient() -> None:
    mean, std = torch.zeros(3, 2, requires_grad=True), torch.ones(3, 2, requires_grad=True)
    for dist in (NormalAction(mean, std), TanhNormalAction(mean, std), DiscreteAction(mean, (2,), 0.0)):
        assert not dist.sample().requires_grad
        assert dist.log_prob(dist.sample()).requires_grad
        assert dist.entropy().requires_grad


def test_differentiable_samples_are_the_same_ones_and_move_with_mean_and_deviation() -> None:
    mean, std = torch.randn(4, 3, requires_grad=True), torch.rand(4, 3).add(0.1).requires_grad_()
    for kind in (NormalAction, TanhNormalAction):
        torch.manual_seed(0)
        sample = kind(mean, std).rsample()
        torch.manual_seed(0)
        torch.testing.assert_close(sample.detach(), kind(mean, std).sample())
        inner = torch.atanh(sample.detach()) if kind is TanhNormalAction else sample.detach()
        slope = 1 - sample.detach().square() if kind is TanhNormalAction else torch.ones(4, 3)
        by_mean, by_std = torch.autograd.grad(sample.sum(), (mean, std))
        torch.testing.assert_close(by_mean, slope, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(by_std, slope * (inner - mean.detach()) / std.detach(), rtol=1e-3, atol=1e-4)


def torch_tanh_normal(mean: torch.Tensor, std: torch.Tensor) -> TransformedDistribution:
    return TransformedDistribution(Normal(mean, std), [TanhTransform(cache_size=1)])


def test_tanh_normal_density_is_that_of_the_transformed_normal() -> None:
    mean, std = 2 * torch.randn(50, 3), torch.rand(50, 3) + 0.1
    action = torch.tanh(1.5 * torch.randn(50, 3))
    expected = torch_tanh_normal(mean.double(), std.double()).log_prob(action.double()).sum(-1).float()
    torch.testing.assert_close(TanhNormalAction(mean, std).log_prob(action), expected, rtol=1e-4, atol=1e-3)


def test_tanh_normal_entropy_estimates_the_mean_of_minus_log_prob() -> None:
    mean, std = torch.tensor([0.9, -0.3]), torch.tensor([0.8, 0.3])
    dist = TanhNormalAction(mean.expand(20_000, 2), std.expand(20_000, 2))
    reference = torch_tanh_normal(mean.double(), std.double())
    actions = reference.sample(torch.Size([20_000]))
    monte_carlo = -reference.log_prob(actions).sum(-1).mean().item()
    assert dist.entropy().mean().item() == pytest.approx(monte_carlo, abs=0.03)
    assert -dist.log_prob(dist.sample()).mean().item() == pytest.approx(monte_carlo, abs=0.03)


def test_saturated_tanh_actions_have_a_finite_density_and_gradient() -> None:
    mean = torch.tensor([[5.0, -5.0]], requires_grad=True)
    dist = TanhNormalAction(mean, torch.ones(1, 2))
    loss = dist.log_prob(torch.tensor([[1.0, -1.0]])) + dist.log_prob(dist.sample())
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert mean.grad is not None
    assert torch.isfinite(mean.grad).all()


@pytest.mark.parametrize("unimix", [0.0, 0.05])
def test_choices_with_unequal_numbers_of_classes_are_independent_categoricals(unimix: float) -> None:
    classes = (2, 5, 3)
    logits = torch.randn(4, 6, 10)
    dist = DiscreteAction(logits, classes, unimix)
    parts = [
        Categorical(probs=(1 - unimix) * torch.softmax(part, -1) + unimix / part.shape[-1])
        for part in logits.split(classes, -1)
    ]
    action = torch.stack([part.sample() for part in parts], -1).to(torch.int32)
    log_prob = torch.stack([part.log_prob(action[..., i]) for i, part in enumerate(parts)]).sum(0)
    torch.testing.assert_close(dist.log_prob(action), log_prob)
    torch.testing.assert_close(dist.entropy(), torch.stack([part.entropy() for part in parts]).sum(0))


def test_every_choice_is_drawn_from_its_own_logits() -> None:
    logits = torch.full((3, 10), -50.0)
    logits[:, [1, 2 + 4, 7 + 0]] = 50.0  # class 1 of 2, class 4 of 5, class 0 of 3
    action = DiscreteAction(logits, (2, 5, 3), 0.0).sample()
    assert action.dtype == torch.int32
    assert action.tolist() == [[1, 4, 0]] * 3


def head(space: Space, dist: str = "normal", outscale: float = 1.0, unimix: float = 0.0) -> ActorHead:
    return ActorHead(6, 8, 2, space, dist, min_std=0.1, max_std=1.0, outscale=outscale, unimix=unimix)


def test_means_and_deviations_stay_in_their_ranges() -> None:
    actor = head(Space((3,), "float32"))
    x = 50 * torch.randn(200, 8)  # hidden features far out
    dist = actor.distribution(x)
    assert isinstance(dist, NormalAction)
    assert dist.mean.abs().max() <= 1
    assert 0.1 <= dist.std.min() < 0.11
    assert 0.99 < dist.std.max() <= 1.0 + 1e-6
    squashed = head(Space((3,), "float32"), "tanh_normal").distribution(x)
    assert isinstance(squashed, TanhNormalAction)
    assert 4.9 < squashed.base.mean.abs().max() <= 5
    assert squashed.sample().abs().max() <= 1


def test_a_fresh_actor_is_centred_and_wide() -> None:
    dist = head(Space((3,), "float32"), outscale=0.01)(torch.randn(50, 6))
    assert isinstance(dist, NormalAction)
    assert dist.mean.abs().max() < 0.1
    torch.testing.assert_close(dist.std, torch.full((50, 3), 0.9 / (1 + math.exp(-2)) + 0.1), rtol=0.02, atol=0)
    choice = head(Space((1,), "int32", (6,)), outscale=0.01)(torch.randn(50, 6))
    torch.testing.assert_close(choice.entropy(), torch.full((50,), math.log(6)), rtol=1e-2, atol=0)


def test_uniform_share_of_a_discrete_actor_is_a_floor() -> None:
    dist = head(Space((2,), "int32", (4, 2)), unimix=0.1).distribution(50 * torch.randn(100, 8))
    assert isinstance(dist, DiscreteAction)
    for part, classes in zip(dist.log_probs, (4, 2), strict=True):
        assert part.exp().min().item() == pytest.approx(0.1 / classes, rel=1e-3)

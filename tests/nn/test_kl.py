"""The KL losses: their clamp and where gradients stop."""

import math

import torch
from torch import Tensor

from dreamer.nn.distributions import categorical_kl, kl_losses, unimix_log_probs

SKEWED = torch.tensor([math.log(3.0), 0.0])  # probabilities (3/4, 1/4)
EVEN = torch.zeros(2)
ONE_GROUP = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # KL of the two, 0.1308 nats


def groups(logits: Tensor, count: int) -> Tensor:
    return logits.expand(1, count, 2).clone().requires_grad_()


def test_kl_by_hand() -> None:
    post, prior = unimix_log_probs(groups(SKEWED, 3), 0.0), unimix_log_probs(groups(EVEN, 3), 0.0)
    torch.testing.assert_close(categorical_kl(post, prior), torch.tensor([3 * ONE_GROUP]))


def test_uniform_share_bounds_every_probability_from_below() -> None:
    # 0.9 * (1, 0) + 0.1 / 2
    probs = unimix_log_probs(torch.tensor([1000.0, 0.0]), 0.1).exp()
    torch.testing.assert_close(probs, torch.tensor([0.95, 0.05]))


def test_free_nats_count_after_the_sum_over_groups() -> None:
    # Ten groups of 0.1308 nats are 1.308 in all, above the limit of 1; clamped one by one they would be 10.
    for loss in kl_losses(groups(SKEWED, 10), groups(EVEN, 10), 0.0, 1.0):
        torch.testing.assert_close(loss, torch.tensor([10 * ONE_GROUP]))
    for loss in kl_losses(groups(SKEWED, 7), groups(EVEN, 7), 0.0, 1.0):
        torch.testing.assert_close(loss, torch.tensor([1.0]))


def test_no_gradient_where_clamped() -> None:
    for count, is_free in ((7, True), (10, False)):
        post, prior = groups(SKEWED, count), groups(EVEN, count)
        dyn, rep = kl_losses(post, prior, 0.01, 1.0)
        (dyn.sum() + rep.sum()).backward()
        assert post.grad is not None
        assert prior.grad is not None
        assert bool((post.grad == 0).all()) is is_free
        assert bool((prior.grad == 0).all()) is is_free


def test_dynamics_loss_moves_the_prior_alone_and_representation_loss_the_posterior() -> None:
    post, prior = groups(SKEWED, 10), groups(EVEN, 10)
    kl_losses(post, prior, 0.01, 1.0)[0].sum().backward()
    assert post.grad is None
    assert prior.grad is not None
    post, prior = groups(SKEWED, 10), groups(EVEN, 10)
    kl_losses(post, prior, 0.01, 1.0)[1].sum().backward()
    assert post.grad is not None
    assert prior.grad is None


def test_clamp_holds_for_each_latent_apart() -> None:
    post = torch.stack([groups(SKEWED, 10), groups(EVEN, 10)], 1)
    dyn, _ = kl_losses(post, torch.zeros(1, 2, 10, 2), 0.0, 1.0)
    torch.testing.assert_close(dyn, torch.tensor([[10 * ONE_GROUP, 1.0]]))

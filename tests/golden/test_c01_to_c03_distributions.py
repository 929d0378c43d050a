"""Parity of symlog, two-hot, one-hot latents with KL, and the policy's distributions."""

import numpy as np
import torch

from dreamer.nn.distributions import (
    DiscreteAction,
    categorical_entropy,
    categorical_kl,
    kl_losses,
    one_hot,
    straight_through,
    unimix_log_probs,
)
from dreamer.nn.heads import ActorHead
from dreamer.ops.symlog import symexp, symexp_bins, symlog, two_hot_loss, two_hot_mean
from dreamer.types import Space


def test_symlog_and_bins(golden):
    g = golden("c01_symlog_twohot")
    g.close("symlog_x", symlog(g.tensor("x")), 1e-5, 1e-6)
    g.close("symexp_y", symexp(g.tensor("y")), 1e-5, 1e-6)
    for name in g.names("bins_"):
        bins = symexp_bins(int(name.removeprefix("bins_")))
        g.close(name, bins, 1e-5, 1e-6)
        assert torch.equal(bins, -bins.flip(0))


def test_two_hot_prediction(golden):
    g = golden("c01_symlog_twohot")
    logits = g.tensor("logits")
    g.close("probs", torch.softmax(logits, -1), 1e-5, 1e-6)
    even = symexp_bins(g.array("logits_even").shape[-1])
    pairs = [
        ("pred", two_hot_mean(logits, symexp_bins(logits.shape[-1]))),
        ("pred_even", two_hot_mean(g.tensor("logits_even"), even)),
    ]
    for name, pred in pairs:
        assert (np.abs(pred.numpy() - g.array(name)) <= 1e-6 * g.array(f"{name}_scale")).all(), name
    assert pairs[0][1][0] == 0  # uniform logits


def test_two_hot_loss(golden):
    g = golden("c01_symlog_twohot")
    logits = g.tensor("loss_logits").requires_grad_()
    loss = two_hot_loss(logits, g.tensor("loss_target"), symexp_bins(logits.shape[-1]))
    loss.sum().backward()
    g.close("loss", loss, 1e-5, 1e-6)
    g.close_grad("loss_grad_logits", logits.grad)


def test_latents_and_kl(golden, mode_sampling):
    g = golden("c02_onehot_kl")
    post, prior = g.tensor("post_logits"), g.tensor("prior_logits")
    log_post, log_prior = unimix_log_probs(post, 0.01), unimix_log_probs(prior, 0.01)
    tolerance = (1e-5, 5e-6)
    g.close("post_logprobs", log_post, *tolerance)
    g.close("kl", categorical_kl(log_post, log_prior), *tolerance)
    g.close("kl_per_group", categorical_kl(log_post.unsqueeze(-2), log_prior.unsqueeze(-2)), *tolerance)
    g.close("post_entropy", categorical_entropy(post, 0.01), *tolerance)
    g.close("post_entropy_per_group", categorical_entropy(post.unsqueeze(-2), 0.01), *tolerance)
    g.close("post_entropy_mean", categorical_entropy(post, 0.01).mean(), *tolerance)
    g.close("prior_entropy_mean", categorical_entropy(prior, 0.01).mean(), *tolerance)
    g.close("post_logp_event", (g.tensor("event") * log_post).sum((-1, -2)), *tolerance)
    g.close("post_mode", straight_through(post, 0.01), *tolerance)


def test_gradients_of_kl_and_straight_through(golden, mode_sampling):
    g = golden("c02_onehot_kl")
    for name in ("dyn", "rep", "both"):
        post, prior = g.tensor("post_logits").requires_grad_(), g.tensor("prior_logits").requires_grad_()
        dyn, rep = kl_losses(post, prior, 0.01, 1.0)
        g.close("dyn", dyn, 1e-5, 5e-6)
        g.close("rep", rep, 1e-5, 5e-6)
        ({"dyn": dyn.mean(), "rep": rep.mean(), "both": dyn.mean() + 0.1 * rep.mean()}[name]).backward()
        for side, leaf in (("post", post), ("prior", prior)):
            g.close_grad(f"grad_{name}_{side}", torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)
    logits = g.tensor("post_logits").requires_grad_()
    (g.tensor("st_weight") * straight_through(logits, 0.01)).sum().backward()
    g.close_grad("st_grad_logits", logits.grad)


def actor(units: int, space: Space) -> ActorHead:
    return ActorHead(units, units, 0, space, "normal", 0.1, 1.0, 0.01, 0.0)


def set_linear(layer: torch.nn.Module, g, prefix: str) -> None:
    layer.load_state_dict({"weight": g.tensor(f"{prefix}/kernel").T, "bias": g.tensor(f"{prefix}/bias")})


def test_continuous_policy(golden):
    g = golden("c03_policy_dists")
    x, action = g.tensor("x"), g.tensor("cont_action")
    head = actor(x.shape[-1], Space((action.shape[-1],), "float32"))
    set_linear(head.mean, g, "p/cont/action/mean")
    set_linear(head.std, g, "p/cont/action/stddev")
    dist, tolerance = head(x), (2e-5, 1e-5)
    g.close("cont_mean", dist.mean, *tolerance)
    g.close("cont_pred", dist.mode(), *tolerance)
    g.close("cont_std", dist.std, *tolerance)
    g.close("cont_logp", dist.log_prob(action), *tolerance)
    g.close("cont_entropy", dist.entropy(), *tolerance)
    for name, std in (("cont_minent", 0.1), ("cont_maxent", 1.0)):
        shape = g.array(name).shape
        limit = type(dist)(torch.zeros(*shape, 1), torch.full((*shape, 1), std)).entropy()
        g.close(name, limit, *tolerance)
    (-(dist.log_prob(action) * g.tensor("adv") + 3e-4 * dist.entropy()).mean()).backward()
    for layer, name in ((head.mean, "mean"), (head.std, "stddev")):
        g.close_grad(f"grad/cont/action/{name}/kernel", layer.weight.grad.T)
        g.close_grad(f"grad/cont/action/{name}/bias", layer.bias.grad)


def test_discrete_policy_with_and_without_unimix(golden):
    g = golden("c03_policy_dists")
    action = g.tensor("cat_action").unsqueeze(-1)
    for prefix, unimix in (("cat", 0.0), ("catmix", 0.01)):
        logits = g.tensor("cat_logits").requires_grad_()
        dist, tolerance = DiscreteAction(logits, (logits.shape[-1],), unimix), (2e-5, 1e-5)
        g.close(f"{prefix}_logprobs", dist.log_probs[0], *tolerance)
        g.close(f"{prefix}_logp", dist.log_prob(action), *tolerance)
        g.close(f"{prefix}_entropy", dist.entropy(), *tolerance)
        assert (dist.mode()[..., 0].numpy() == g.array(f"{prefix}_pred")).all()
        (-(dist.log_prob(action) * g.tensor("adv") + 3e-4 * dist.entropy()).mean()).backward()
        g.close_grad(f"{prefix}_grad_logits", logits.grad)


def test_discrete_and_multi_discrete_heads(golden):
    g = golden("c03_policy_dists")
    x = g.tensor("x")
    head = actor(x.shape[-1], Space((1,), "int32", (g.array("disc_head_logits").shape[-1],)))
    set_linear(head.logits, g, "p/disc/action/logits")
    dist = head(x)
    # Logits are defined up to a constant per row: compare the distributions.
    expected = torch.log_softmax(g.tensor("disc_head_logits"), -1)
    assert torch.allclose(dist.log_probs[0], expected, rtol=2e-5, atol=1e-5)
    action, shape = g.tensor("multi_action"), g.array("multi_logits").shape
    head = actor(x.shape[-1], Space((shape[-2],), "int32", (shape[-1],) * shape[-2]))
    set_linear(head.logits, g, "p/multi/action/logits")
    dist = head(x)
    g.close("multi_logits", head.logits(x).unflatten(-1, shape[-2:]), 2e-5, 1e-5)
    g.close("multi_logp", dist.log_prob(action), 2e-5, 1e-5)
    g.close("multi_entropy", dist.entropy(), 2e-5, 1e-5)


def test_one_hot_of_an_index():
    assert torch.equal(one_hot(torch.tensor([2, 0]), 3), torch.tensor([[0.0, 0, 1], [1, 0, 0]]))

"""Parity of returns, normaliser, actor, critic and replay-value losses."""

import numpy as np
import pytest
import torch

from dreamer.behavior.actor_critic import ActorCritic, PercentileRange
from dreamer.behavior.imagination import Rollout
from dreamer.config.schema import ActorConfig, CriticConfig, ModelConfig, RSSMConfig
from dreamer.nn.distributions import DiscreteAction, NormalAction
from dreamer.ops.returns import lambda_return
from dreamer.types import Batch, Space

TOLERANCE = (1e-4, 2e-4)
METRICS = {
    "adv": "actor/advantage",
    "adv_std": "actor/advantage_std",
    "adv_mag": "actor/advantage_magnitude",
    "weight": "imagination/weight",
    "ret": "return/normed",
    "val": "critic/value",
    "slowval": "critic/slow_value",
    "ret_rate": "return/rate",
}


def actor_critic(bins: int, slow_target: bool) -> ActorCritic:
    config = ModelConfig(
        name="test", units=4, depth=2, rssm=RSSMConfig(deter=8, hidden=4, classes=2),
        actor=ActorConfig(), critic=CriticConfig(bins=bins, slow_target=slow_target),
    )  # fmt: skip
    return ActorCritic(config, 4, Space((1,), "float32"))


def test_lambda_returns(golden):
    g = golden("c07_actor_critic")
    for name in g.names("lr"):
        if not name.endswith("_ret"):
            continue
        i = name.removesuffix("_ret")
        discount, lambda_ = g.array(f"{i}_disc_lam").tolist()
        cont, last = 1 - g.tensor(f"{i}_term").float(), g.tensor(f"{i}_last")
        ret = lambda_return(g.tensor(f"{i}_rew"), cont, g.tensor(f"{i}_boot"), lambda_, discount, last)
        g.close(name, ret, *TOLERANCE)


def given(model, logits, slow_logits, policy=None):
    """A model whose networks answer with these arrays, whatever they are shown."""
    model.critic.forward = lambda feat: logits
    model.slow_critic.module.forward = lambda feat: slow_logits
    model.actor.forward = lambda feat: policy
    return model


@pytest.mark.parametrize("case", ["cont", "fresh", "discr", "old"])
def test_imagined_losses(golden, case):
    g = golden("c07_actor_critic")
    get = lambda name: g.tensor(f"im_{case}_{name}")  # noqa: E731
    contdisc, slow_target = g.array(f"im_{case}_contdisc_slowtar").tolist()
    logits, slow_logits, action = get("val_logits").requires_grad_(), get("slow_logits"), get("act")
    model = actor_critic(logits.shape[-1], slow_target)
    assert torch.allclose(model.critic.bins, g.tensor("bins_41"), rtol=1e-5) or logits.shape[-1] != 41
    model.return_range.range.copy_(get("retnorm_before"))
    leaves = {
        name: get(f"pol_{name}").requires_grad_() for name in ("mean", "std", "logits") if f"im_{case}_pol_{name}" in g
    }
    if "logits" in leaves:
        policy, action = DiscreteAction(leaves["logits"], (leaves["logits"].shape[-1],), 0.0), action.unsqueeze(-1)
    else:
        policy = NormalAction(leaves["mean"], leaves["std"])
    # Where their continue head knows no discount, they multiply by it, and begin the weights at 1 with it taken out.
    discount = 1.0 if contdisc else 1 - 1 / 333
    rollout = Rollout(torch.zeros(*logits.shape[:2], 4), action, get("rew"), discount * get("con"))
    out = given(model, logits, slow_logits, policy).loss(rollout)
    actor, critic = out.losses["actor"] / discount, out.losses["critic"] / discount
    (actor.mean() + critic.mean()).backward()
    g.close(f"im_{case}_policy_loss", actor, *TOLERANCE)
    g.close(f"im_{case}_value_loss", critic, *TOLERANCE)
    g.close(f"im_{case}_ret", out.ret, *TOLERANCE)
    g.close(f"im_{case}_retnorm_after", model.return_range.range, *TOLERANCE)
    for theirs, ours in METRICS.items():
        g.close(f"im_{case}_metric_{theirs}", out.metrics[ours] / (discount if theirs == "weight" else 1), *TOLERANCE)
    g.close_grad(f"im_{case}_grad_val_logits", logits.grad)
    for name, leaf in leaves.items():
        g.close_grad(f"im_{case}_grad_{name}", leaf.grad)


@pytest.mark.parametrize("case", ["a", "b"])
def test_replay_value_loss(golden, case):
    g = golden("c07_actor_critic")
    get = lambda name: g.tensor(f"rp_{case}_{name}")  # noqa: E731
    logits, boot = get("val_logits").requires_grad_(), get("boot").requires_grad_()
    model = given(actor_critic(logits.shape[-1], bool(g.array(f"rp_{case}_slowtar"))), logits, get("slow_logits"))
    term, last, none = get("term"), get("last"), torch.zeros(0)
    batch = Batch({}, none, get("rew"), last, last, term, none, none, none)
    loss = model.replay_loss(batch, torch.zeros(*last.shape, 4), boot)
    loss.mean().backward()
    g.close(f"rp_{case}_loss", loss, *TOLERANCE)
    ret = lambda_return(get("rew"), (~term).float(), boot, 0.95, model.config.discount, last)
    g.close(f"rp_{case}_ret", ret, *TOLERANCE)
    g.close_grad(f"rp_{case}_grad_val_logits", logits.grad)
    assert boot.grad is None


def test_return_normaliser(golden):
    g = golden("c07_actor_critic")
    x = g.tensor("rn_x")
    fast_rate = float(g.array("rn_fast")[0, 0] / g.array("rn_percentiles")[0, 0])
    variants = {
        "default": {},
        "fast": {"rate": round(fast_rate, 3)},
    }  # rn_debias: with a bias correction, off by default
    for name, options in variants.items():
        model, rows = PercentileRange(**options), []
        for step in x:
            model.update(step)
            rows.append([*model.range.tolist(), *(value.item() for value in model.low_and_scale())])
        g.close(f"rn_{name}", np.array(rows), *TOLERANCE)
    percentiles = torch.quantile(x, PercentileRange().percentiles, dim=1).T
    g.close("rn_percentiles", percentiles, *TOLERANCE)

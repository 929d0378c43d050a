"""explore=disagreement: the bonus worked by hand, where it is paid, and whom its gradients reach."""

from typing import Any

import pytest
import torch
from tiny import ACTIONS, BOTH, build_agent, build_batch, has_gradient, model_config
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behavior.explore.disagreement import Disagreement
from dreamer.behavior.imagination import Rollout, imagine
from dreamer.config.schema import ExploreConfig
from dreamer.types import Latent, Space
from dreamer.world_model.world_model import Observed


def build(space: Space = ACTIONS["continuous"], **words: Any) -> tuple[Agent, Disagreement]:
    agent = build_agent(BOTH, space, explore=ExploreConfig(name="disagreement", **words))
    assert isinstance(agent.explore, Disagreement)
    return agent, agent.explore


def rollout_of(agent: Agent, post: Observed, is_differentiable: bool = False) -> Rollout:
    start = Latent(*(part.detach().flatten(0, 1) for part in post.latent))
    return imagine(agent.world_model, agent.actor_critic.actor, start, 4, is_differentiable)


class Constant(torch.nn.Module):
    """A head that predicts the same for every z, times the first entry of the action, which comes last but one."""

    def __init__(self, value: float, outputs: int) -> None:
        super().__init__()
        self.value, self.outputs = value, outputs

    def forward(self, inputs: Tensor) -> Tensor:
        return self.value * inputs[..., -2:-1].expand(*inputs.shape[:-1], self.outputs)


def test_bonus_and_loss_of_heads_whose_answers_are_known() -> None:
    agent, explore = build(heads=3, weight=0.5)
    explore.heads = torch.nn.ModuleList(Constant(value, 15) for value in (0.0, 1.0, 2.0))
    batch = build_batch(agent)
    batch.is_first[0, 3] = True
    batch.prev_action[:, :, 0] = torch.tensor([[9.0, 1.0, 2.0, 7.0, 0.0, 3.0], [5.0, 2.0, 2.0, 0.0, 1.0, 1.0]])
    post = agent.world_model.observe(batch)
    rollout = rollout_of(agent, post)
    rollout = rollout._replace(reward=torch.zeros(12, 5))  # those of a head at random are too large to add one to
    out = explore(rollout, batch, post)
    # Heads say 0, a and 2a of an action a: their variance is 2/3 a^2. The scale is the mean of the rollout's.
    scale = 2 / 3 * rollout.action[:, :-1, 0].square().mean()
    torch.testing.assert_close(explore.scale, scale)
    torch.testing.assert_close(out.metrics["explore/bonus"], torch.tensor(0.5))
    paid = 0.5 * 2 / 3 * torch.tensor([[0.0, 1.0, 4.0, 0.0, 0.0, 9.0], [0.0, 4.0, 4.0, 0.0, 1.0, 1.0]]) / scale
    torch.testing.assert_close(out.batch.reward - batch.reward, paid)
    imagined = 0.5 * 2 / 3 * rollout.action[:, :-1, 0].square() / scale
    torch.testing.assert_close(out.rollout.reward[:, 1:], imagined)
    assert not out.rollout.reward[:, 0].any()
    # Target probabilities p of three groups of five classes: sum over heads and z of (i a - p)^2.
    probs = torch.softmax(post.logits.detach(), -1).flatten(-2)
    expected = sum((i * 2.0 - probs[1, 1]).square().sum() for i in range(3))
    torch.testing.assert_close(out.losses["disagreement"][1, 0], expected)
    assert out.losses["disagreement"].shape == (2, 5)
    assert out.losses["disagreement"][0, 2] == 0 and (out.losses["disagreement"][1] > 0).all()  # row 3 of a reset


def test_the_bonus_fades_with_the_policy_steps_of_the_run() -> None:
    agent, explore = build(steps=200, weight=2.0)
    batch = build_batch(agent)
    post = agent.world_model.observe(batch)
    for policy_steps, mean in ((0, 2.0), (50, 1.5), (200, 0.0), (900, 0.0)):
        explore.scale.zero_()
        explore.fade(policy_steps)
        out = explore(rollout_of(agent, post), batch, post)
        torch.testing.assert_close(out.metrics["explore/bonus"], torch.tensor(mean))
        assert out.metrics["explore/strength"] == mean / 2


def test_the_scale_moves_at_the_rate_of_the_range_of_returns() -> None:
    _, explore = build()
    explore.track(torch.tensor(4.0))
    explore.track(torch.tensor(14.0))
    torch.testing.assert_close(explore.scale, torch.tensor(4.0 + model_config().return_norm.rate * 10))


@pytest.mark.parametrize("space", ACTIONS.values(), ids=ACTIONS)
def test_the_loss_trains_the_heads_alone(space: Space) -> None:
    agent, explore = build(space)
    batch = build_batch(agent)
    post = agent.world_model.observe(batch)
    out = explore(rollout_of(agent, post), batch, post)
    out.losses["disagreement"].sum().backward()
    assert all(has_gradient(head) for head in explore.heads)
    assert not has_gradient(agent.world_model) and not has_gradient(agent.actor_critic)


def test_the_bonus_reaches_the_actor_through_the_model_and_no_head() -> None:
    agent, explore = build()
    batch = build_batch(agent)
    post = agent.world_model.observe(batch)
    rollout = rollout_of(agent, post, is_differentiable=True)
    out = explore(rollout, batch, post)
    assert torch.equal(out.rollout.reward[:, 0], rollout.reward[:, 0])
    out.rollout.reward[:, 1:].sum().backward()
    assert has_gradient(agent.actor_critic.actor)
    assert not has_gradient(explore) and not has_gradient(agent.world_model)


def test_an_ensemble_agrees_on_what_it_has_seen_and_not_on_the_rest() -> None:
    torch.manual_seed(0)
    agent, explore = build()
    feat, action = torch.zeros(1, 2, agent.world_model.features), torch.zeros(1, 2, 2)
    logits, is_first = 5 * torch.randn(1, 2, 3, 5), torch.zeros(1, 2, dtype=torch.bool)
    optimizer = torch.optim.Adam(explore.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        explore.loss(logits, is_first, explore.predict(feat[:, :-1], action[:, 1:])).mean().backward()
        optimizer.step()
    seen, unseen = (explore.variance(explore.predict(feat, tried)) for tried in (action, action + 1))
    assert seen.mean() < 0.01 * unseen.mean()


def test_without_it_nothing_is_added_and_no_weight_is_there() -> None:
    agent = build_agent()
    batch = build_batch(agent)
    post = agent.world_model.observe(batch)
    rollout = rollout_of(agent, post)
    out = agent.explore(rollout, batch, post)
    assert out.rollout is rollout and out.batch is batch and not out.losses and not out.metrics
    assert not agent.explore.state_dict()

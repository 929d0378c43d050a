"""Imagined trajectories: where they start, what follows from what, and who learns through them."""

import pytest
import torch
from tiny import ACTIONS, VECTORS, build_agent, has_gradient

from dreamer.behavior.imagination import imagine
from dreamer.types import Latent
from dreamer.world_model.world_model import action_vector

N, H = 5, 4


def start() -> Latent:
    return Latent(torch.randn(N, 24), torch.nn.functional.one_hot(torch.randint(0, 5, (N, 3)), 5).float())


@pytest.mark.parametrize("kind", ACTIONS)
def test_rollout_begins_at_the_start_and_each_action_leads_into_the_next_state(kind: str) -> None:
    agent = build_agent(VECTORS, ACTIONS[kind])
    model, first = agent.world_model, start()
    rollout = imagine(model, agent.actor_critic.actor, first, H)
    assert rollout.feat.shape == (N, H + 1, 24 + 15)
    assert torch.equal(rollout.feat[:, 0], torch.cat([first.deter, first.stoch.flatten(1)], -1))
    actions = action_vector(rollout.action, ACTIONS[kind])
    for t in range(H):
        latent = Latent(rollout.feat[:, t, :24], rollout.feat[:, t, 24:].unflatten(-1, (3, 5)))
        expected = model.rssm.imagine_step(latent, actions[:, t]).deter  # h is deterministic, z is not
        torch.testing.assert_close(rollout.feat[:, t + 1, :24], expected)
    torch.testing.assert_close(rollout.reward, model.reward.mean(model.reward(rollout.feat)))
    torch.testing.assert_close(rollout.cont, torch.sigmoid(model.cont(rollout.feat)))


@pytest.mark.parametrize("kind", ACTIONS)
def test_imagined_actions_are_as_an_environment_takes_them(kind: str) -> None:
    space = ACTIONS[kind]
    agent = build_agent(VECTORS, space)
    action = imagine(agent.world_model, agent.actor_critic.actor, start(), 30).action
    assert action.shape == (N, 31, *space.shape)
    assert action.dtype == getattr(torch, space.dtype)
    for i, classes in enumerate(space.classes):
        assert set(action[..., i].flatten().tolist()) == set(range(classes))


def test_a_rollout_is_constant() -> None:
    agent = build_agent(VECTORS)
    latent = Latent(*(part.requires_grad_() for part in start()))
    rollout = imagine(agent.world_model, agent.actor_critic.actor, latent, H)
    assert not any(part.requires_grad for part in rollout)


def test_a_differentiable_rollout_leads_back_to_the_actor_and_leaves_the_world_model_alone() -> None:
    agent = build_agent(VECTORS)
    model, actor = agent.world_model, agent.actor_critic.actor
    torch.manual_seed(0)
    first = start()
    rollouts = []
    for is_differentiable in (False, True):
        torch.manual_seed(1)
        rollouts.append(imagine(model, actor, first, H, is_differentiable=is_differentiable))
    for constant, live in zip(*rollouts, strict=True):  # the same numbers
        torch.testing.assert_close(live.detach(), constant)
    live = rollouts[1]
    for part in (live.feat[:, 1:], live.action[:, :-1], live.reward[:, 1:], live.cont[:, 1:]):
        agent.zero_grad()
        part.sum().backward(retain_graph=True)
        assert has_gradient(actor)
        assert not has_gradient(model)
    agent.zero_grad()
    live.feat[:, 0].sum().backward(retain_graph=True)  # no action led to the start
    assert not has_gradient(actor)
    assert all(p.requires_grad for p in model.parameters())


def test_what_the_actor_sees_in_a_differentiable_rollout_is_a_constant() -> None:
    """Its gradient is the one that it has when the actor is shown the same states as plain numbers."""
    agent = build_agent(VECTORS)
    model, actor = agent.world_model, agent.actor_critic.actor
    first = start()
    gradients = []
    for shown in (actor, lambda feat: actor(feat.detach())):
        agent.zero_grad()
        torch.manual_seed(1)
        imagine(model, shown, first, H, is_differentiable=True).feat.square().sum().backward()
        gradients.append([p.grad.clone() for p in actor.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_horizon_zero_is_the_start_alone() -> None:
    agent = build_agent(VECTORS)
    rollout = imagine(agent.world_model, agent.actor_critic.actor, start(), 0)
    assert [part.shape[1] for part in rollout] == [1, 1, 1, 1]

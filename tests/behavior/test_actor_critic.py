"""Actor and critic: whom each loss trains, how episodes end in replayed sequences, and which rows imagination uses."""

import copy
from typing import Any

import pytest
import torch
from tiny import ACTIONS, BOTH, VECTORS, build_agent, build_batch, has_gradient
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behavior.actor_critic import BehaviorOutput
from dreamer.behavior.imagination import Rollout, imagine
from dreamer.nn.distributions import ActionDist
from dreamer.nn.heads import ActorHead
from dreamer.training.module import DreamerModule
from dreamer.types import Batch, Latent
from dreamer.world_model.world_model import WorldModel, feature


@pytest.fixture(params=ACTIONS)
def agent(request: pytest.FixtureRequest) -> Agent:
    agent = build_agent(BOTH, ACTIONS[request.param])
    for p in agent.actor_critic.slow_critic.parameters():  # so that slow and fast predictions differ
        p.mul_(0.9)
    return agent


def behavior_of(agent: Agent, batch: Batch) -> tuple[Latent, BehaviorOutput]:
    """As in the training step, but without detaching the start: the rollout itself must stop gradients."""
    post = agent.world_model.observe(batch).latent
    start = Latent(*(part.flatten(0, 1) for part in post))
    rollout = imagine(agent.world_model, agent.actor_critic.actor, start, horizon=4)
    return post, agent.actor_critic.loss(rollout)


def test_imagined_losses_train_actor_and_critic_alone(agent: Agent) -> None:
    parts = agent.actor_critic
    _, out = behavior_of(agent, build_batch(agent))
    assert {name: loss.shape for name, loss in out.losses.items()} == {"actor": (12, 4), "critic": (12, 4)}
    out.losses["actor"].sum().backward()
    assert all(p.grad is not None for p in parts.actor.parameters())
    assert has_gradient(parts.actor)
    assert not any(has_gradient(part) for part in (parts.critic, parts.slow_critic, agent.world_model))
    agent.zero_grad()
    out.losses["critic"].sum().backward()
    assert all(p.grad is not None for p in parts.critic.parameters())
    assert has_gradient(parts.critic)
    assert not any(has_gradient(part) for part in (parts.actor, parts.slow_critic, agent.world_model))


def test_replay_loss_trains_the_critic_and_the_world_model_up_to_the_encoder(agent: Agent) -> None:
    batch, parts = build_batch(agent), agent.actor_critic
    post, out = behavior_of(agent, batch)
    bootstrap = out.ret[:, 0].unflatten(0, (2, 6)).clone().requires_grad_()
    parts.replay_loss(batch, feature(post), bootstrap).sum().backward()
    assert bootstrap.grad is None
    for part in (parts.critic, agent.world_model.encoder, agent.world_model.rssm.posterior_net):
        assert all(p.grad is not None and p.grad.any() for p in part.parameters())
    assert has_gradient(agent.world_model.rssm.cell)
    assert not any(has_gradient(part) for part in (parts.actor, parts.slow_critic))


def test_advantages_and_returns_are_constants_of_the_actor_loss(agent: Agent) -> None:
    """REINFORCE: twice the log-probability's gradient where the advantage is twice as large."""
    parts = agent.actor_critic
    post = agent.world_model.observe(build_batch(agent)).latent
    rollout = imagine(agent.world_model, parts.actor, Latent(*(part.flatten(0, 1) for part in post)), horizon=4)
    parts.config.actor.entropy = 0.0
    parts.return_range.limit = 1e20  # a fixed scale, and advantages linear in reward
    parts.critic.out.weight.data.zero_()  # value 0
    grads = []
    for factor in (1.0, 2.0):
        agent.zero_grad()
        scaled = parts.loss(rollout._replace(reward=factor * rollout.reward)).losses["actor"]
        (1e20 * scaled).sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in parts.actor.parameters() if p.grad is not None]))
    assert grads[0].any()
    torch.testing.assert_close(grads[1], 2 * grads[0], rtol=1e-3, atol=1e-6 * float(grads[0].abs().max()))


class ShownTheSame:
    """An actor that is shown in every rollout, as constants, what it saw in the first."""

    def __init__(self, actor: ActorHead) -> None:
        self.actor, self.seen, self.calls = actor, [], 0

    def begin(self) -> None:
        self.calls = 0

    def __call__(self, feat: Tensor) -> ActionDist:
        if self.calls == len(self.seen):
            self.seen.append(feat.detach())
        self.calls += 1
        return self.actor(self.seen[self.calls - 1])


def smooth_step(world_model: WorldModel, actor: ShownTheSame, latent: Latent):
    """Deterministic dynamics: h moves with the action, z stays."""
    feat = feature(latent)
    action = actor(feat).rsample()
    deter = torch.tanh(latent.deter + torch.nn.functional.pad(action, (0, latent.deter.shape[-1] - 2)))
    return feat, action, Latent(deter, latent.stoch)


@pytest.mark.parametrize("slow_target", [False, True])
@pytest.mark.parametrize("dist", ["normal", "tanh_normal"])
def test_the_gradient_through_the_model_is_that_of_the_advantage(
    monkeypatch: pytest.MonkeyPatch, dist: str, slow_target: bool
) -> None:
    """Against finite differences, where state, reward and value are smooth and known, and the actor sees constants."""
    agent = build_agent(VECTORS)
    parts = agent.actor_critic
    parts.actor.dist, parts.config.critic.slow_target = dist, slow_target
    start = Latent(torch.randn(5, 24), torch.nn.functional.one_hot(torch.randint(0, 5, (5, 3)), 5).float())
    monkeypatch.setattr(
        agent.world_model, "predict", lambda feat: (feat[..., 0].square(), 0.9 * torch.ones_like(feat[..., 0]))
    )
    monkeypatch.setattr(parts, "slow_value" if slow_target else "value", lambda feat: 3 * feat[..., 1])

    actor = ShownTheSame(parts.actor)

    def total() -> Tensor:
        torch.manual_seed(2)
        actor.begin()
        rollout = imagine(agent.world_model, actor, start, 4, True, smooth_step)
        advantage = parts.live_advantage(rollout)
        assert advantage.shape == (5, 4)
        return advantage.sum()

    total().backward()
    bias = parts.actor.mean.bias
    assert bias.grad is not None
    for i in range(2):
        around = []
        for shift in (1e-2, -1e-2):
            with torch.no_grad():
                bias[i] += shift
                around.append(float(total()))
                bias[i] -= shift
        assert float(bias.grad[i]) == pytest.approx((around[0] - around[1]) / 2e-2, rel=2e-2)


def test_an_advantage_with_a_gradient_replaces_the_score_in_the_actor_loss_alone() -> None:
    agent = build_agent(VECTORS)
    parts = agent.actor_critic
    parts.return_range.rate = 1.0
    feat, actions = torch.randn(3, 5, 39), torch.randn(3, 5, 2)
    rollout = Rollout(feat, actions, torch.randn(3, 5), torch.rand(3, 5))
    advantage = torch.randn(3, 4, requires_grad=True)
    with_score, live = parts.loss_of_constants(rollout, None), parts.loss_of_constants(rollout, advantage)
    torch.testing.assert_close(live.losses["critic"], with_score.losses["critic"])
    assert torch.equal(live.ret, with_score.ret)
    (grad,) = torch.autograd.grad(live.losses["actor"].sum(), advantage)
    weight = torch.cumprod(rollout.cont, 1)[:, :-1]
    scale, entropy = live.metrics["return/scale"], parts.actor(feat).entropy()[:, :-1]
    torch.testing.assert_close(grad, -weight / scale)
    expected = -weight * (advantage / scale + parts.config.actor.entropy * entropy)
    torch.testing.assert_close(live.losses["actor"], expected)


def replay_loss(agent: Agent, batch: Batch, feat: Tensor, bootstrap: Tensor) -> Tensor:
    with torch.no_grad():
        return agent.actor_critic.replay_loss(batch, feat, bootstrap)


def test_the_final_row_of_an_episode_is_dropped_and_cuts_the_return() -> None:
    agent = build_agent(VECTORS)
    batch, feat, bootstrap = build_batch(agent), torch.randn(2, 6, 39), torch.randn(2, 6)
    batch.is_last[0, 3] = True
    loss = replay_loss(agent, batch, feat, bootstrap)
    assert loss.shape == (2, 5)
    assert loss[0, 3] == 0
    assert (loss > 0).sum() == 9
    # Rows 0..2 end at row 3, whatever the next episode brings; row 2 takes the bootstrap of row 3.
    reward, other = batch.reward.clone(), bootstrap.clone()
    reward[0, 4:] += 10
    other[0, 4:] += 10
    later = replay_loss(agent, batch._replace(reward=reward), feat, other)
    assert torch.equal(later[0, :3], loss[0, :3])
    assert later[0, 4] != loss[0, 4]
    assert torch.equal(later[1], loss[1])
    other = bootstrap.clone()
    other[0, 3] += 10
    assert replay_loss(agent, batch, feat, other)[0, 2] != loss[0, 2]


def test_nothing_follows_a_true_end() -> None:
    agent = build_agent(VECTORS)
    batch, feat, bootstrap = build_batch(agent), torch.randn(2, 6, 39), torch.randn(2, 6)
    batch.is_last[0, 3] = batch.is_terminal[0, 3] = True
    loss = replay_loss(agent, batch, feat, bootstrap)
    bootstrap[0, 3] += 10
    assert torch.equal(replay_loss(agent, batch, feat, bootstrap)[0, :3], loss[0, :3])
    batch.reward[0, 3] += 10
    assert replay_loss(agent, batch, feat, bootstrap)[0, 2] != loss[0, 2]


def test_replay_loss_on_the_last_rows_uses_their_rewards_and_flags() -> None:
    agent = build_agent(VECTORS)
    batch, feat, bootstrap = build_batch(agent), torch.randn(2, 6, 39), torch.randn(2, 6)
    batch.is_last[0, 4] = batch.is_terminal[1, 5] = True
    short = Batch(
        batch.obs, batch.prev_action, batch.reward[:, 3:], batch.is_first[:, 3:], batch.is_last[:, 3:],
        batch.is_terminal[:, 3:], batch.context_deter, batch.context_stoch, batch.row_ids,
    )  # fmt: skip
    got = replay_loss(agent, batch, feat[:, 3:], bootstrap[:, 3:])
    assert torch.equal(got, replay_loss(agent, short, feat[:, 3:], bootstrap[:, 3:]))
    # The last rows look at nothing before them: with all six rows the same numbers come out.
    torch.testing.assert_close(got, replay_loss(agent, batch, feat, bootstrap)[:, 3:])


class BackwardOnly(DreamerModule):
    """The real training step up to its gradients; no Trainer, no optimizer."""

    def apply_update(self) -> Tensor:
        return torch.zeros(())


def step(agent: Agent, batch: Batch, last: int) -> tuple[dict[str, Any], list[Tensor]]:
    """Output of a training step, and what the critic saw: the rollout's features, then the replayed ones."""
    agent.config.imagination.last = last
    agent.actor_critic.return_range.range.zero_()
    seen: list[Tensor] = []
    handle = agent.actor_critic.critic.register_forward_hook(lambda module, args, out: seen.append(args[0].detach()))
    torch.manual_seed(1)
    out = BackwardOnly(agent).training_step(batch, 0)
    handle.remove()
    return out, seen


def test_imagination_starts_from_the_last_rows() -> None:
    agent = build_agent()
    batch = build_batch(agent)
    out, (rollout, replayed) = step(agent, batch, last=4)
    assert rollout.shape == (2 * 4, 5, 39)
    assert replayed.shape == (2, 4, 39)
    assert torch.equal(replayed[..., :24], out["deter"][:, 2:])
    assert torch.equal(rollout[:, 0], replayed.flatten(0, 1))
    assert out["deter"].shape == (2, 6, 24)  # every row's latent goes back to replay
    assert out["stoch"].shape == (2, 6, 3)


def test_imagination_from_all_rows_by_number_equals_the_default() -> None:
    agent = build_agent()
    batch = build_batch(agent)
    results = []
    for last in (0, 6):
        agent.actor_critic.slow_critic.module.load_state_dict(agent.actor_critic.critic.state_dict())
        out, seen = step(agent, batch, last)
        results.append((out["metrics"], seen, [p.grad.clone() for p in agent.parameters() if p.grad is not None]))
    for name, value in results[0][0].items():
        assert torch.equal(value, results[1][0][name]), name
    for part in (1, 2):
        assert all(torch.equal(a, b) for a, b in zip(results[0][part], results[1][part], strict=True))


def gradients(agent: Agent, batch: Batch, gradient: str) -> dict[str, Tensor]:
    """Of a training step of an agent with the same weights and another model.actor.gradient."""
    config = copy.deepcopy(agent.config)
    config.actor.gradient = gradient
    other = Agent(config, agent.obs_space, agent.action_space)
    other.load_state_dict(agent.state_dict())
    step(other, batch, last=4)
    return {name: p.grad.clone() for name, p in other.named_parameters() if p.grad is not None}


def test_the_gradient_through_the_model_changes_the_actor_alone_and_only_for_continuous_actions(agent: Agent) -> None:
    batch = build_batch(agent)
    score, through = gradients(agent, batch, "reinforce"), gradients(agent, batch, "dynamics")
    assert score.keys() == through.keys()
    changed = {name for name in score if not torch.allclose(through[name], score[name], rtol=1e-4, atol=1e-6)}
    if agent.action_space.is_discrete:
        assert not changed
    else:
        actor = {name for name in score if name.startswith("actor_critic.actor.")}
        assert changed == actor
        assert all(torch.isfinite(through[name]).all() for name in actor)


def test_refreshed_latents_carry_no_graph_into_the_next_context() -> None:
    agent = build_agent()
    out, _ = step(agent, build_batch(agent), last=0)
    assert not out["deter"].requires_grad
    assert not any(value.requires_grad for value in out["metrics"].values())
    assert not out["stoch"].is_floating_point()


def test_every_trainable_parameter_gets_a_gradient_and_the_slow_critic_none(agent: Agent) -> None:
    agent.config.free_nats = 0.0  # or the clamp may hide the prior
    step(agent, build_batch(agent), last=0)
    trained = {p for group in agent.parameter_groups().values() for p in group}
    for name, p in agent.named_parameters():
        assert p.requires_grad is (p in trained), name
        assert (p.grad is not None) is (p in trained), name
        if p.grad is not None:
            assert torch.isfinite(p.grad).all(), name
            assert p.grad.any(), name
    assert not any(name.startswith("actor_critic.slow_critic") for name, p in agent.named_parameters() if p in trained)


def test_total_weighs_every_loss_by_its_scale() -> None:
    agent = build_agent()
    scales = agent.config.loss_scales
    scales.rec, scales.rep, scales.replay_value = 2.0, 0.5, 0.25
    metrics = step(agent, build_batch(agent), last=0)[0]["metrics"]
    losses = {name.removeprefix("loss/"): value for name, value in metrics.items() if name.startswith("loss/")}
    total = losses.pop("total")
    weights = dict.fromkeys(BOTH, 2.0) | {"rep": 0.5, "replay_value": 0.25}
    assert set(losses) == {*BOTH, "dyn", "rep", "reward", "cont", "actor", "critic", "replay_value"}
    torch.testing.assert_close(total, sum((weights.get(name, 1.0) * v for name, v in losses.items()), torch.zeros(())))

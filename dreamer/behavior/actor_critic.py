"""Actor and critic, learned from imagined trajectories, the critic's loss on replayed ones, and what moves slowly."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer import ranks
from dreamer.behavior.imagination import Rollout, frozen
from dreamer.config.schema import ModelConfig
from dreamer.nn.heads import ActorHead, TwoHotHead
from dreamer.ops.returns import lambda_return, survival
from dreamer.types import Batch, Space


class BehaviorOutput(NamedTuple):
    """ret: lambda-returns of the rollout [N H]; losses: name -> [N H]; metrics: name -> scalar."""

    ret: Float[Tensor, "N H"]
    losses: dict[str, Float[Tensor, "N H"]]
    metrics: dict[str, Float[Tensor, ""]]


class ActorCritic(nn.Module):
    """Actor and critic (two-hot regression to lambda-returns).

    The actor learns by REINFORCE with normalised advantages or, where `use_dynamics`, by their gradient through the
    world model (as in the code of arXiv:2301.04104v1, the paper's first version).

    The slow critic regularises the fast one; bootstraps come from the fast critic unless `slow_target`.
    """

    def __init__(self, config: ModelConfig, features: int, action_space: Space) -> None:
        super().__init__()
        self.config = config
        actor, critic, norm = config.actor, config.critic, config.return_norm
        self.actor = ActorHead(
            features, config.units, actor.layers, action_space,
            actor.dist, actor.min_std, actor.max_std, actor.outscale, actor.unimix,
        )  # fmt: skip
        self.critic = TwoHotHead(features, config.units, critic.layers, critic.bins, critic.outscale)
        self.slow_critic = SlowCopy(self.critic, critic.slow_rate, critic.slow_every)
        self.return_range = PercentileRange(norm.rate, norm.low, norm.high, norm.limit, norm.share)
        self.use_dynamics = actor.gradient == "dynamics" and not action_space.is_discrete

    def loss(self, rollout: Rollout) -> BehaviorOutput:
        """Actor and critic loss on imagined trajectories (the paper's actor-critic learning).

        A differentiable rollout trains the actor by the gradient of its advantage, one of constants by REINFORCE.
        """
        live_advantage = self.live_advantage(rollout) if rollout.is_differentiable else None
        return self.loss_of_constants(rollout.detached(), live_advantage)

    def live_advantage(self, rollout: Rollout) -> Float[Tensor, "N H"]:
        """ret_t - v_t of a differentiable rollout; its gradient reaches the actor alone.

        v_t keeps its gradient, which cancels in ret_t what the actions before t did to s_t.
        """
        with frozen(self.critic):
            value = self.slow_value(rollout.feat) if self.config.critic.slow_target else self.value(rollout.feat)
        ret = lambda_return(rollout.reward, rollout.cont, value, self.config.imagination.lambda_)
        return ret - value[:, :-1]

    def loss_of_constants(self, rollout: Rollout, live_advantage: Float[Tensor, "N H"] | None) -> BehaviorOutput:
        """Computes the losses of a rollout that has no gradient, and moves the range of returns."""
        config = self.config
        logits, policy = self.critic(rollout.feat), self.actor(rollout.feat)
        with torch.no_grad():
            value, slow_value = self.critic.mean(logits), self.slow_value(rollout.feat)
            target = slow_value if config.critic.slow_target else value
            ret = lambda_return(rollout.reward, rollout.cont, target, config.imagination.lambda_)
            weight = survival(rollout.cont)
            self.return_range.update(ret)
            low, scale = self.return_range.low_and_scale()
            adv = (ret - target[:, :-1]) / scale
        log_prob, entropy = policy.log_prob(rollout.action)[:, :-1], policy.entropy()
        gain = reinforce(log_prob, adv) if live_advantage is None else live_advantage / scale
        losses = {
            "actor": actor_loss(gain, entropy[:, :-1], weight[:, :-1], config.actor.entropy),
            "critic": weight[:, :-1] * self.critic_loss(logits[:, :-1], ret, slow_value[:, :-1]),
        }
        with torch.no_grad():
            metrics = {
                "actor/entropy": entropy.mean(),
                "actor/advantage": adv.mean(),
                "actor/advantage_std": adv.std(correction=0),
                "actor/advantage_magnitude": adv.abs().mean(),
                "critic/value": value.mean(),
                "critic/slow_value": slow_value.mean(),
                "critic/target": ret.mean(),
                **return_metrics((ret - low) / scale, low, scale),
                "imagination/weight": weight.mean(),
                "imagination/reward": rollout.reward.mean(),
                "imagination/cont": rollout.cont.mean(),
            }
        return BehaviorOutput(ret, losses, metrics)

    def replay_loss(
        self, batch: Batch, feat: Float[Tensor, "B R F"], bootstrap: Float[Tensor, "B R"]
    ) -> Float[Tensor, "B R-1"]:
        """Critic loss on the last R rows of the replayed sequences; its gradient goes on into the world model.

        Bootstraps are the imagined returns from each state. The final row of an episode is dropped, and so is row R.
        """
        config, rows = self.config, feat.shape[1]
        reward, is_terminal, is_last = (x[:, -rows:] for x in (batch.reward, batch.is_terminal, batch.is_last))
        logits = self.critic(feat)
        with torch.no_grad():
            slow_value, cont = self.slow_value(feat), (~is_terminal).float()
            ret = lambda_return(reward, cont, bootstrap, config.imagination.lambda_, config.discount, is_last)
        return (~is_last[:, :-1]).float() * self.critic_loss(logits[:, :-1], ret, slow_value[:, :-1])

    def critic_loss(
        self, logits: Float[Tensor, "N T bins"], ret: Float[Tensor, "N T"], slow_value: Float[Tensor, "N T"]
    ) -> Float[Tensor, "N T"]:
        """twohot(v_t, sg ret_t) + slow_reg * twohot(v_t, sg slow_t), before any weight."""
        return self.critic.loss(logits, ret) + self.config.critic.slow_reg * self.critic.loss(logits, slow_value)

    def value(self, feat: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch"]:
        return self.critic.mean(self.critic(feat))

    def slow_value(self, feat: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch"]:
        slow = self.slow_critic.module
        assert isinstance(slow, TwoHotHead)
        return slow.mean(slow(feat))


def reinforce(log_prob: Float[Tensor, "N H"], adv: Float[Tensor, "N H"]) -> Float[Tensor, "N H"]:
    """log pi(a_t | s_t) * sg(adv_t), whose gradient is that of the expected advantage."""
    return log_prob * adv.detach()


def actor_loss(
    gain: Float[Tensor, "N H"], entropy: Float[Tensor, "N H"], weight: Float[Tensor, "N H"], entropy_scale: float
) -> Float[Tensor, "N H"]:
    """-w_t (gain_t + entropy_scale * entropy_t); the gain is `reinforce`, or an advantage that has a gradient."""
    return -weight * (gain + entropy_scale * entropy)


def return_metrics(
    normed: Float[Tensor, "N H"], low: Float[Tensor, ""], scale: Float[Tensor, ""]
) -> dict[str, Float[Tensor, ""]]:
    """Describes returns in units of their range; normed = (ret - low) / scale."""
    return {
        "return/scale": scale,
        "return/low": low,
        "return/normed": normed.mean(),
        "return/normed_min": normed.min(),
        "return/normed_max": normed.max(),
        "return/rate": (normed.abs() >= 1).float().mean(),
    }


class SlowCopy(nn.Module):
    """Exponential moving average of a module's weights: slow <- rate * fast + (1 - rate) * slow.

    Starts as an exact copy; `track` is called after every optimizer step and mixes at calls 0, every, 2 every, ...
    """

    count: Tensor

    def __init__(self, source: nn.Module, rate: float, every: int = 1) -> None:
        super().__init__()
        self.module = copy.deepcopy(source).requires_grad_(False)
        self.rate, self.every = rate, every
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def track(self, source: nn.Module) -> None:
        if self.every == 1 or int(self.count) % self.every == 0:
            torch._foreach_lerp_(list(self.module.parameters()), list(source.parameters()), self.rate)
        self.count += 1


class PercentileRange(nn.Module):
    """Moving average of two percentiles (the paper's return normalisation); `range` holds them as [low, high].

    Starts at 0 without bias correction. The scale is max(limit, high - low, share max(|low|, |high|)).
    Differs from the paper, which has no share, unless it is 0.
    """

    range: Tensor
    percentiles: Tensor

    def __init__(
        self, rate: float = 0.01, low: float = 5.0, high: float = 95.0, limit: float = 1.0, share: float = 0.0
    ) -> None:
        super().__init__()
        self.rate, self.limit, self.share = rate, limit, share
        self.register_buffer("range", torch.zeros(2))
        self.register_buffer("percentiles", torch.tensor([low, high]) / 100, persistent=False)

    @torch.no_grad()
    def update(self, x: Float[Tensor, "*shape"]) -> None:
        """Moves towards the percentiles of x, of all ranks' x where there are several."""
        x = x if ranks.is_alone() else ranks.joined(x)
        self.range.lerp_(torch.quantile(x.float().flatten(), self.percentiles), self.rate)

    def low_and_scale(self) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        low, high = self.range
        size = self.share * self.range.abs().max()
        return low.clone(), torch.maximum(high - low, size).clamp(min=self.limit)

"""Actor and critic, learned from imagined trajectories, and the critic's loss on replayed ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.behavior.imagination import Rollout
from dreamer.config import ModelConfig
from dreamer.nn.ema import PercentileRange, SlowCopy
from dreamer.nn.frozen import frozen
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
        self.return_range = PercentileRange(norm.rate, norm.low, norm.high, norm.limit)
        self.use_dynamics = actor.gradient == "dynamics" and not action_space.is_discrete

    def differentiable_advantage(self, rollout: Rollout) -> Float[Tensor, "N H"] | None:
        """ret_t - v_t of a differentiable rollout; its gradient reaches the actor alone. None with REINFORCE.

        v_t keeps its gradient, which cancels in ret_t what the actions before t did to s_t.
        """
        if not self.use_dynamics:
            return None
        with frozen(self.critic):
            value = self.slow_value(rollout.feat) if self.config.critic.slow_target else self.value(rollout.feat)
        ret = lambda_return(rollout.reward, rollout.cont, value, self.config.imagination.lambda_)
        return ret - value[:, :-1]

    def loss(self, rollout: Rollout, differentiable_advantage: Float[Tensor, "N H"] | None = None) -> BehaviorOutput:
        """Actor and critic loss on constant imagined trajectories (the paper's actor-critic learning)."""
        logits = self.critic(rollout.feat)
        policy = self.actor(rollout.feat)
        with torch.no_grad():
            slow_value = self.slow_value(rollout.feat)
        log_prob, entropy = policy.log_prob(rollout.action), policy.entropy()
        return self.losses_from(rollout, logits, slow_value, log_prob, entropy, differentiable_advantage)

    def losses_from(
        self,
        rollout: Rollout,
        logits: Float[Tensor, "N H1 bins"],
        slow_value: Float[Tensor, "N H1"],
        log_prob: Float[Tensor, "N H1"],
        entropy: Float[Tensor, "N H1"],
        differentiable_advantage: Float[Tensor, "N H"] | None = None,
        discount: float = 1.0,
    ) -> BehaviorOutput:
        """The equations alone. `discount` stays 1, since the continue head predicts it, unless a test says otherwise.

        actor_t = -w_t (log pi(a_t|s_t) sg((ret_t - v_t) / scale) + entropy_scale * entropy_t)
          or -w_t ((ret_t - v_t) / scale + entropy_scale * entropy_t) with a differentiable advantage
        critic_t = w_t (twohot(v_t, sg ret_t) + slow_reg * twohot(v_t, sg slow_t))
        """
        with torch.no_grad():
            value = self.critic.mean(logits)
            target = slow_value if self.config.critic.slow_target else value
            ret = lambda_return(rollout.reward, rollout.cont, target, self.config.imagination.lambda_, discount)
            self.return_range.update(ret)
            low, scale = self.return_range.low_and_scale()
            adv = (ret - target[:, :-1]) / scale
            weight = survival(rollout.cont, discount)
        gain = log_prob[:, :-1] * adv if differentiable_advantage is None else differentiable_advantage / scale
        actor = -weight[:, :-1] * (gain + self.config.actor.entropy * entropy[:, :-1])
        critic = weight[:, :-1] * self.critic_loss(logits[:, :-1], ret, slow_value[:, :-1])
        with torch.no_grad():
            normed = (ret - low) / scale
            metrics = {
                "actor/entropy": entropy.mean(),
                "actor/advantage": adv.mean(),
                "actor/advantage_std": adv.std(correction=0),
                "actor/advantage_magnitude": adv.abs().mean(),
                "critic/value": value.mean(),
                "critic/slow_value": slow_value.mean(),
                "critic/target": ret.mean(),
                "return/scale": scale,
                "return/low": low,
                "return/normed": normed.mean(),
                "return/normed_min": normed.min(),
                "return/normed_max": normed.max(),
                "return/rate": (normed.abs() >= 1).float().mean(),
                "imagination/weight": weight.mean(),
                "imagination/reward": rollout.reward.mean(),
                "imagination/cont": rollout.cont.mean(),
            }
        return BehaviorOutput(ret, {"actor": actor, "critic": critic}, metrics)

    def replay_loss(
        self, batch: Batch, feat: Float[Tensor, "B K F"], bootstrap: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B K-1"]:
        """Critic loss on the last K rows of the replayed sequences; its gradient goes on into the world model.

        Bootstraps are the imagined returns from each state. The final row of an episode is dropped, and so is row K.
        """
        rows = feat.shape[1]
        logits = self.critic(feat)
        with torch.no_grad():
            slow_value = self.slow_value(feat)
        return self.replay_loss_from(
            logits,
            slow_value,
            batch.reward[:, -rows:],
            batch.is_terminal[:, -rows:],
            batch.is_last[:, -rows:],
            bootstrap,
        )

    def replay_loss_from(
        self,
        logits: Float[Tensor, "B K bins"],
        slow_value: Float[Tensor, "B K"],
        reward: Float[Tensor, "B K"],
        is_terminal: Tensor,
        is_last: Tensor,
        bootstrap: Float[Tensor, "B K"],
    ) -> Float[Tensor, "B K-1"]:
        config = self.config
        ret = lambda_return(
            reward, (~is_terminal).float(), bootstrap.detach(), config.imagination.lambda_, config.discount, is_last
        )
        return (~is_last[:, :-1]).float() * self.critic_loss(logits[:, :-1], ret, slow_value[:, :-1])

    def critic_loss(
        self, logits: Float[Tensor, "N T bins"], ret: Float[Tensor, "N T"], slow_value: Float[Tensor, "N T"]
    ) -> Float[Tensor, "N T"]:
        slow_reg = self.config.critic.slow_reg * self.critic.loss(logits, slow_value)
        return self.critic.loss(logits, ret) + slow_reg

    def value(self, feat: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch"]:
        return self.critic.mean(self.critic(feat))

    def slow_value(self, feat: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch"]:
        slow = self.slow_critic.module
        assert isinstance(slow, TwoHotHead)
        return slow.mean(slow(feat))

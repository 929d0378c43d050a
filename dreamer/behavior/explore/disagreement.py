"""explore=disagreement: imagination pays for what the world model does not know yet (Plan2Explore)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer import ranks
from dreamer.behavior.explore.policy import Explore, Explored
from dreamer.behavior.imagination import Rollout, frozen
from dreamer.config.schema import ExploreConfig, ModelConfig
from dreamer.nn.layers import MLP, Linear
from dreamer.types import Batch, Space
from dreamer.world_model.world_model import Observed, action_vector, feature


class Disagreement(Explore):
    """An ensemble of M small networks f_i predicts the next latent; where they differ, an action is paid a bonus.

    bonus[t+1] = weight * strength * variance[t] / scale;  variance[t] = mean over z of Var_i f_i(s_t, a_t)
    scale is a moving average of the variance in imagination, so `weight` is the mean bonus of a policy step, in units
    of the reward; strength fades from 1 to 0. Plan2Explore: arXiv:2005.05960.
    Differs from that paper: the target is the class probabilities of the posterior, not an embedding, and the bonus
    is added to the task's reward.
    """

    strength: Tensor
    scale: Tensor

    def __init__(self, config: ExploreConfig, model: ModelConfig, features: int, action_space: Space) -> None:
        super().__init__()
        self.config, self.action_space, self.rate = config, action_space, model.return_norm.rate
        inputs, outputs = features + action_space.size, model.rssm.stoch * model.rssm.classes
        self.heads = nn.ModuleList(
            nn.Sequential(MLP(inputs, model.units, layers=2), Linear(model.units, outputs)) for _ in range(config.heads)
        )
        self.register_buffer("strength", torch.ones(()))
        self.register_buffer("scale", torch.zeros(()))

    @torch.no_grad()
    def fade(self, policy_steps: int) -> None:
        self.strength.fill_(self.config.strength(policy_steps))

    def forward(self, rollout: Rollout, batch: Batch, post: Observed) -> Explored:
        """Pays the bonus in rollout and batch, and trains the ensemble on the batch.

        The bonus of a differentiable rollout has a gradient in its states and actions. None of it reaches the heads,
        and none of their loss the world model.
        """
        feat, led_here = feature(post.latent).detach(), action_vector(batch.prev_action, self.action_space)
        predicted = self.predict(feat[:, :-1], led_here[:, 1:])
        losses = {"disagreement": self.loss(post.logits.detach(), batch.is_first, predicted)}
        action = action_vector(rollout.action, self.action_space)
        with frozen(self) if rollout.is_differentiable else torch.no_grad():
            variance = self.variance(self.predict(rollout.feat[:, :-1], action[:, :-1]))
            self.track(variance.detach().mean())
            imagined = self.bonus(variance)
        replayed = self.bonus(self.variance(predicted.detach())) * ~batch.is_first[:, 1:]
        rollout = rollout._replace(reward=paid(rollout.reward, imagined))
        batch = batch._replace(reward=paid(batch.reward, replayed))
        metrics = {"explore/bonus": imagined.detach().mean(), "explore/strength": self.strength.clone()}
        return Explored(rollout, batch, losses, metrics)

    def predict(self, feat: Float[Tensor, "N T F"], action: Float[Tensor, "N T A"]) -> Float[Tensor, "M N T Z"]:
        """What each head expects the next z to be, classes in a row."""
        inputs = torch.cat([feat, action], -1)
        return torch.stack([head(inputs).float() for head in self.heads])

    def loss(
        self,
        logits: Float[Tensor, "B T S K"],
        is_first: Bool[Tensor, "B T"],
        predicted: Float[Tensor, "M B T-1 Z"],
    ) -> Float[Tensor, "B T-1"]:
        """Squared error of the predictions of rows 1 to T - 1, summed over z and the heads; 0 in the row of a reset."""
        target = torch.softmax(logits[:, 1:].float(), -1).flatten(-2)
        return (predicted - target).square().sum((0, -1)) * ~is_first[:, 1:]

    def variance(self, predicted: Float[Tensor, "M N T Z"]) -> Float[Tensor, "N T"]:
        """How far the heads' predictions lie apart, the mean over z."""
        return predicted.var(0, correction=0).mean(-1)

    def bonus(self, variance: Float[Tensor, "N T"]) -> Float[Tensor, "N T"]:
        return self.config.weight * self.strength * variance / self.scale

    @torch.no_grad()
    def track(self, mean: Float[Tensor, ""]) -> None:
        """Move the scale towards the mean variance of a rollout (of all ranks'); the first one is taken as it is."""
        mean = mean if ranks.is_alone() else ranks.joined(mean[None]).mean()
        self.scale.copy_(torch.where(self.scale == 0, mean, self.scale.lerp(mean, self.rate)))


def paid(reward: Float[Tensor, "N T"], bonus: Float[Tensor, "N T-1"]) -> Float[Tensor, "N T"]:
    """Rewards with the bonus of the action that led there; the first row has none."""
    return torch.cat([reward[:, :1], reward[:, 1:] + bonus], 1)

"""Encoder, RSSM, decoder, reward and continue heads, and the loss that trains them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from dreamer.config.schema import ModelConfig
from dreamer.nn.decoder import Decoder
from dreamer.nn.distributions import categorical_entropy, kl_losses, one_hot
from dreamer.nn.encoder import Encoder
from dreamer.nn.heads import ContHead, TwoHotHead
from dreamer.nn.standardize import Standardize
from dreamer.types import Batch, Latent, Space
from dreamer.world_model.rssm import RSSM


def feature(latent: Latent) -> Float[Tensor, "*batch F"]:
    """What every head sees: h first, then flat z."""
    return torch.cat([latent.deter, latent.stoch.flatten(-2)], dim=-1)


def action_vector(action: Shaped[Tensor, "*batch n"], space: Space) -> Float[Tensor, "*batch A"]:
    """Actions as the networks see them: continuous ones unchanged, discrete choices as concatenated one-hots."""
    if not space.is_discrete:
        return action.float()
    return torch.cat([one_hot(action[..., i], classes) for i, classes in enumerate(space.classes)], dim=-1)


class Observed(NamedTuple):
    """What observing replayed rows gives: the latent [B T], the logits that z was drawn from, and the embedding."""

    latent: Latent
    logits: Float[Tensor, "B T S K"]
    embed: Float[Tensor, "B T E"]


class WorldModelOutput(NamedTuple):
    """losses: name -> [B T], of images maybe fewer rows (`Decoder.reconstructed_rows`); metrics: name -> scalar."""

    losses: dict[str, Float[Tensor, "B _"]]
    metrics: dict[str, Float[Tensor, ""]]


class WorldModel(nn.Module):
    """What the agent knows of its environment: x_t, a_t -> h_t, z_t -> x_t, r_t, c_t."""

    def __init__(self, config: ModelConfig, obs_space: dict[str, Space], action_space: Space) -> None:
        super().__init__()
        self.config, self.action_space = config, action_space
        rssm = config.rssm
        self.standardize = Standardize(obs_space, config.standardize_vectors)
        self.encoder = Encoder(config.encoder, obs_space, config.units, config.depth)
        self.rssm = RSSM(rssm, self.encoder.out_features, action_space.size)
        flat = rssm.stoch * rssm.classes
        self.decoder = Decoder(config.decoder, obs_space, rssm.deter, flat, config.units, config.depth)
        self.features = rssm.deter + flat
        head = config.reward
        self.reward = TwoHotHead(self.features, config.units, head.layers, head.bins, head.outscale)
        self.cont = ContHead(self.features, config.units, config.cont.layers, config.cont.outscale)

    def context(self, deter: Float[Tensor, "B D"], stoch: Int[Tensor, "B S"]) -> Latent:
        """Latents as replay stores them (stoch as class indices)."""
        return Latent(deter, one_hot(stoch, self.rssm.classes))

    def embed(self, obs: dict[str, Tensor]) -> Float[Tensor, "B T E"]:
        """The encoder's view of observations as the environment gives them."""
        return self.encoder(self.standardize(obs))

    def observe(self, batch: Batch) -> Observed:
        """Posterior of every row, starting from the stored context latent."""
        embed = self.embed(batch.obs)
        prev_action = action_vector(batch.prev_action, self.action_space)
        start = self.context(batch.context_deter, batch.context_stoch)
        return Observed(*self.rssm.observe(embed, prev_action, batch.is_first, start), embed)

    def loss(self, batch: Batch, post: Observed) -> WorldModelOutput:
        """World-model loss: reconstruction, reward, continue, dynamics and representation, each [B T]."""
        prior_logits = self.rssm.prior(post.latent.deter)
        dyn, rep = kl_losses(post.logits, prior_logits, self.config.rssm.unimix, self.config.free_nats)
        feat = feature(post.latent)
        reward_logits, cont_logit = self.reward(feat), self.cont(feat)
        cont_target = (~batch.is_terminal).float() * self.config.discount
        losses = {
            "dyn": dyn,
            "rep": rep,
            "reward": self.reward.loss(reward_logits, batch.reward),
            "cont": self.cont.loss(cont_logit, cont_target),
            **self.decoder.losses(post.latent, self.standardize(batch.obs)),
        }
        with torch.no_grad():
            unimix = self.config.rssm.unimix
            metrics = {
                "model/prior_entropy": categorical_entropy(prior_logits, unimix).mean(),
                "model/post_entropy": categorical_entropy(post.logits, unimix).mean(),
            }
        return WorldModelOutput(losses, metrics)

    def predict(self, feat: Float[Tensor, "*batch F"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Expected reward and the probability of going on, discount included."""
        return self.reward.mean(self.reward(feat)), torch.sigmoid(self.cont(feat))

    @torch.no_grad()
    def open_loop(self, batch: Batch, context: int) -> dict[str, Tensor]:
        """Predicted observations [B T ...]: the first `context` rows filtered, the rest imagined from true actions."""
        head = batch._replace(
            obs={key: value[:, :context] for key, value in batch.obs.items()},
            prev_action=batch.prev_action[:, :context],
            is_first=batch.is_first[:, :context],
        )
        post = self.observe(head).latent
        deters, stochs = list(post.deter.unbind(1)), list(post.stoch.unbind(1))
        latent = Latent(deters[-1], stochs[-1])
        actions = action_vector(batch.prev_action, self.action_space)
        for t in range(context, actions.shape[1]):
            latent = self.rssm.imagine_step(latent, actions[:, t])
            deters.append(latent.deter)
            stochs.append(latent.stoch)
        outputs = self.decoder(Latent(torch.stack(deters, 1), torch.stack(stochs, 1)))
        return self.standardize.undo(self.decoder.observations(outputs))

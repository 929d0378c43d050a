"""Recurrent state-space model."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer.config.schema import RSSMConfig
from dreamer.nn.distributions import straight_through
from dreamer.nn.gru import BlockGRU
from dreamer.nn.layers import MLP, Linear
from dreamer.types import Latent


class RSSM(nn.Module):
    """Recurrent state-space model: the memory `deter` and the categorical `stoch` of the world model.

    observe: embed [B T E], prev_action [B T A], is_first [B T] -> Latent [B T], post_logits [B T S K]
    prior: deter [... D] -> logits [... S K];  imagine_step: Latent [N], action [N A] -> Latent [N]
    Differs from the paper: rows with is_first start from zeros and a zero action, as in the authors' code.
    """

    def __init__(self, config: RSSMConfig, embed: int, action: int) -> None:
        super().__init__()
        self.deter, self.stoch, self.classes, self.unimix = config.deter, config.stoch, config.classes, config.unimix
        flat = config.stoch * config.classes  # z as the networks see it
        self.cell = BlockGRU(config.deter, flat, config.hidden, action, config.blocks, config.dyn_layers)
        self.prior_net = nn.Sequential(MLP(config.deter, config.hidden, config.img_layers), Linear(config.hidden, flat))
        self.posterior_net = nn.Sequential(
            MLP(config.deter + embed, config.hidden, config.obs_layers), Linear(config.hidden, flat)
        )

    def recur(self, latent: Latent, action: Float[Tensor, "N A"]) -> Float[Tensor, "N D"]:
        """h_t = f(h_{t-1}, z_{t-1}, a_{t-1}); actions are shrunk to [-1, 1] without touching their gradient."""
        action = action / action.abs().clamp(min=1).detach()
        return self.cell(latent.deter, latent.stoch.flatten(1), action)

    def prior(self, deter: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch S K"]:
        return self.prior_net(deter).float().unflatten(-1, (self.stoch, self.classes))

    def posterior(
        self, deter: Float[Tensor, "*batch D"], embed: Float[Tensor, "*batch E"]
    ) -> Float[Tensor, "*batch S K"]:
        """Logits of q(z_t | h_t, x_t)."""
        logits = self.posterior_net(torch.cat([deter, embed], -1))
        return logits.float().unflatten(-1, (self.stoch, self.classes))

    def observe(
        self,
        embed: Float[Tensor, "B T E"],
        prev_action: Float[Tensor, "B T A"],
        is_first: Bool[Tensor, "B T"],
        start: Latent,
        noise: Float[Tensor, "B T S"] | None = None,
    ) -> tuple[Latent, Float[Tensor, "B T S K"]]:
        """Filter a sequence. prev_action[t] led into row t; a row with is_first forgets everything before it.

        z is drawn with `noise`, uniform in [0, 1), or without it by torch's global generator.
        """
        latent, latents, logits = start, [], []
        for t in range(embed.shape[1]):
            draw = None if noise is None else noise[:, t]
            latent, logit = self.observe_step(latent, embed[:, t], prev_action[:, t], is_first[:, t], draw)
            latents.append(latent)
            logits.append(logit)
        deter, stoch = zip(*latents, strict=True)
        return Latent(torch.stack(deter, 1), torch.stack(stoch, 1)), torch.stack(logits, 1)

    def observe_step(
        self,
        latent: Latent,
        embed: Float[Tensor, "B E"],
        prev_action: Float[Tensor, "B A"],
        is_first: Bool[Tensor, " B"],
        noise: Float[Tensor, "B S"] | None = None,
    ) -> tuple[Latent, Float[Tensor, "B S K"]]:
        """One step with an observation: h_t from the state before, z_t drawn from the posterior."""
        keep = (~is_first).float().unsqueeze(-1)
        latent = Latent(latent.deter * keep, latent.stoch * keep.unsqueeze(-1))
        deter = self.recur(latent, prev_action * keep)
        logits = self.posterior(deter, embed)
        return Latent(deter, straight_through(logits, self.unimix, noise)), logits

    def imagine_step(self, latent: Latent, action: Float[Tensor, "N A"]) -> Latent:
        """One step without an observation, z drawn from the prior."""
        deter = self.recur(latent, action)
        return Latent(deter, straight_through(self.prior(deter), self.unimix))

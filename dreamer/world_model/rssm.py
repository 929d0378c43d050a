"""Recurrent state-space model: the cell, the posterior and the prior."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer.config.schema import RSSMConfig
from dreamer.nn.distributions import straight_through
from dreamer.nn.layers import MLP, BlockLinear, Dense, Linear, RMSNorm
from dreamer.types import Latent


class BlockGRU(nn.Module):
    """h' = k * tanh(sigmoid(reset) * cand) + (1 - k) * h,  k = sigmoid(update - 1).

    h, z and the action are each embedded to `hidden`, all three are appended to each of the `blocks` chunks of h, and
    block-linear layers, which mix within a chunk only, make the gates. The gate layer has no norm.
    deter [N D], stoch flat [N S*K], action [N A] -> deter [N D]
    """

    def __init__(self, deter: int, stoch: int, hidden: int, action: int, blocks: int, layers: int = 1) -> None:
        super().__init__()
        self.blocks = blocks
        self.embed_deter = Dense(deter, hidden)
        self.embed_stoch = Dense(stoch, hidden)
        self.embed_action = Dense(action, hidden)
        self.hidden = nn.ModuleList(
            BlockLinear(deter, deter, blocks, shared=3 * hidden if i == 0 else 0) for i in range(layers)
        )
        self.hidden_norms = nn.ModuleList(RMSNorm(deter) for _ in range(layers))
        self.gates = BlockLinear(deter, 3 * deter, blocks)

    def forward(
        self, deter: Float[Tensor, "N D"], stoch: Float[Tensor, "N Z"], action: Float[Tensor, "N A"]
    ) -> Float[Tensor, "N D"]:
        x, shared = deter, torch.cat([self.embed_deter(deter), self.embed_stoch(stoch), self.embed_action(action)], -1)
        for i, (layer, norm) in enumerate(zip(self.hidden, self.hidden_norms, strict=True)):
            x = F.silu(norm(layer(x, shared if i == 0 else None)))
        gates = self.gates(x).float().unflatten(-1, (self.blocks, 3, -1))
        reset, cand, update = gates.unbind(-2)
        cand = 2 * torch.sigmoid(2 * torch.sigmoid(reset) * cand) - 1  # tanh, which costs six times as much on a CPU
        old = deter.float().unflatten(-1, (self.blocks, -1))
        return torch.lerp(old, cand, torch.sigmoid(update - 1)).flatten(-2)


class RSSM(nn.Module):
    """Recurrent state-space model: the memory `deter` and the categorical `stoch` of the world model.

    observe: embed [B T E], prev_action [B T A], is_first [B T], start [B] -> Latent [B T], post_logits [B T S K]
    observe_step: the same for one row; filter_step: without drawing z;  prior: deter [... D] -> logits [... S K]
    imagine_step: Latent [N], action [N A] -> Latent [N]
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
    ) -> tuple[Latent, Float[Tensor, "B T S K"]]:
        """Filter a sequence. prev_action[t] led into row t; a row with is_first forgets everything before it."""
        latent, latents, logits = start, [], []
        for t in range(embed.shape[1]):
            latent, logit = self.observe_step(latent, embed[:, t], prev_action[:, t], is_first[:, t])
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
        """One step with an observation: h_t from the state before, z_t drawn from the posterior.

        The draw is made with `noise`, uniform in [0, 1), or without it by torch's global generator.
        """
        deter, logits = self.filter_step(latent, embed, prev_action, is_first)
        return Latent(deter, straight_through(logits, self.unimix, noise)), logits

    def filter_step(
        self,
        latent: Latent,
        embed: Float[Tensor, "B E"],
        prev_action: Float[Tensor, "B A"],
        is_first: Bool[Tensor, " B"],
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B S K"]]:
        """h_t and the logits of q(z_t | h_t, x_t)."""
        keep = (~is_first).float().unsqueeze(-1)
        latent = Latent(latent.deter * keep, latent.stoch * keep.unsqueeze(-1))
        with loop_precision(embed.device):
            deter = self.recur(latent, prev_action * keep)
            return deter, self.posterior(deter, embed)

    def imagine_step(self, latent: Latent, action: Float[Tensor, "N A"]) -> Latent:
        """One step without an observation, z drawn from the prior."""
        deter = self.recur(latent, action)
        return Latent(deter, straight_through(self.prior(deter), self.unimix))


def loop_precision(device: torch.device) -> AbstractContextManager[Any]:
    """A CPU multiplies the few rows of a step faster in float32 than it turns their weights into bfloat16."""
    is_slow = device.type == "cpu" and torch.is_autocast_enabled("cpu")
    return torch.autocast("cpu", enabled=False) if is_slow else nullcontext()

"""Recurrent state-space model."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer.config import RSSMConfig
from dreamer.nn.distributions import straight_through
from dreamer.nn.gru import BlockGRU
from dreamer.nn.layers import MLP, Linear, RMSNorm
from dreamer.types import Latent


class Posterior(nn.Module):
    """Logits of z_t from h_t and the embedding of x_t: hidden layers on [h, embed], then a linear layer.

    The embedding's share of the first layer needs no state, so `embed_share` computes it for a whole sequence at once.
    """

    def __init__(self, deter: int, embed: int, hidden: int, layers: int, outputs: int) -> None:
        super().__init__()
        assert layers >= 1, layers
        self.deter = deter
        self.first = Linear(deter + embed, hidden)
        self.norm = RMSNorm(hidden)
        self.rest = MLP(hidden, hidden, layers - 1)
        self.out = Linear(hidden, outputs)

    def embed_share(self, embed: Float[Tensor, "*batch E"]) -> Float[Tensor, "*batch hidden"]:
        return F.linear(embed, self.first.weight[:, self.deter :], self.first.bias)

    def forward(
        self, deter: Float[Tensor, "N D"], embed_share: Float[Tensor, "N hidden"]
    ) -> Float[Tensor, "N outputs"]:
        x = F.linear(deter, self.first.weight[:, : self.deter]) + embed_share
        return self.out(self.rest(F.silu(self.norm(x))))


class RSSM(nn.Module):
    """Recurrent state-space model: the memory `deter` and the categorical `stoch` of the world model.

    observe: embed [B T E], prev_action [B T A], is_first [B T] -> Latent [B T], post_logits [B T S K]
    prior: deter [... D] -> logits [... S K];  imagine_step: Latent [N], action [N A] -> Latent [N]
    Differs from the paper: rows with is_first start from zeros and a zero action, as in the authors' code.
    """

    def __init__(self, config: RSSMConfig, embed: int, action: int) -> None:
        super().__init__()
        self.groups, self.classes, self.unimix = config.stoch, config.classes, config.unimix
        self.deter, self.stoch = config.deter, config.stoch * config.classes
        self.cell = BlockGRU(config.deter, self.stoch, config.hidden, action, config.blocks, config.dyn_layers)
        self.prior_net = nn.Sequential(
            MLP(config.deter, config.hidden, config.img_layers),
            Linear(config.hidden if config.img_layers else config.deter, self.stoch),
        )
        self.posterior_net = Posterior(config.deter, embed, config.hidden, config.obs_layers, self.stoch)

    def initial(self, batch: int) -> Latent:
        device = self.cell.gates.bias.device
        return Latent(
            torch.zeros(batch, self.deter, device=device),
            torch.zeros(batch, self.groups, self.classes, device=device),
        )

    def embed_action(self, action: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch hidden"]:
        """The recurrent cell's view of an action vector, which is shrunk to [-1, 1] without touching its gradient."""
        return self.cell.embed_action(action / action.abs().clamp(min=1).detach())

    def prior(self, deter: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch S K"]:
        return self.prior_net(deter).float().unflatten(-1, (self.groups, self.classes))

    def observe(
        self,
        embed: Float[Tensor, "B T E"],
        prev_action: Float[Tensor, "B T A"],
        is_first: Bool[Tensor, "B T"],
        start: Latent,
        generator: torch.Generator | None = None,
    ) -> tuple[Latent, Float[Tensor, "B T S K"]]:
        """Filter a sequence. prev_action[t] led into row t; a row with is_first forgets everything before it."""
        keep = (~is_first).float().unsqueeze(-1)
        actions = self.embed_action(prev_action * keep).unbind(1)
        shares = self.posterior_net.embed_share(embed).unbind(1)
        deter, stoch = start.deter, start.stoch.flatten(1)
        deters, stochs, logits = [], [], []
        for action, share, keep_t in zip(actions, shares, keep.unbind(1), strict=True):
            deter = self.cell(deter * keep_t, stoch * keep_t, action)
            logit = self.posterior_net(deter, share).float().unflatten(-1, (self.groups, self.classes))
            sample = straight_through(logit, self.unimix, generator)
            stoch = sample.flatten(1)
            deters.append(deter)
            stochs.append(sample)
            logits.append(logit)
        return Latent(torch.stack(deters, 1), torch.stack(stochs, 1)), torch.stack(logits, 1)

    def imagine_step(self, latent: Latent, action: Float[Tensor, "N A"]) -> Latent:
        """One step without an observation, z drawn from the prior."""
        deter = self.cell(latent.deter, latent.stoch.flatten(1), self.embed_action(action))
        return Latent(deter, straight_through(self.prior(deter), self.unimix))

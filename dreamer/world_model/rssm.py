"""Recurrent state-space model."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dreamer.config import RSSMConfig
from dreamer.nn.distributions import straight_through
from dreamer.nn.gru import BlockGRU
from dreamer.nn.layers import MLP, Dense, Linear, RMSNorm
from dreamer.nn.through_time import Affine, Loop, Step
from dreamer.types import Latent

ROWS_AT_ONCE = 4
"""Rows of `RSSM.observe` in a piece of compiled code: with one, a quarter of the time goes into calling them."""


def recurrent_dtype(device: torch.device) -> torch.dtype:
    """What the loop over observed rows computes in: a CPU multiplies its few rows by weights faster in float32."""
    if device.type == "cpu" or not torch.is_autocast_enabled(device.type):
        return torch.float32
    return torch.get_autocast_dtype(device.type)


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

    @property
    def dense(self) -> list[Dense]:
        """The hidden layers after the first."""
        return [cast(Dense, layer) for layer in self.rest]

    def embed_share(self, embed: Float[Tensor, "*batch E"]) -> Float[Tensor, "*batch hidden"]:
        return F.linear(embed, self.first.weight[:, self.deter :], self.first.bias)

    def layers(self, embed_share: Float[Tensor, "T B hidden"]) -> dict[str, Affine]:
        """The layers that `step` applies, by name."""
        return {
            "post_first": Affine((self.first.weight[:, : self.deter],), embed_share),
            **{f"post{i}": dense.linear.affine() for i, dense in enumerate(self.dense)},
            "post_out": self.out.affine(),
        }

    def step(self, deter: Float[Tensor, "N D"], layer: Callable[..., Tensor]) -> Float[Tensor, "N outputs"]:
        x = F.silu(self.norm(layer("post_first", deter)))
        for i, dense in enumerate(self.dense):
            x = F.silu(dense.norm(layer(f"post{i}", x)))
        return layer("post_out", x)


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
        self.prior_net = nn.Sequential(
            MLP(config.deter, config.hidden, config.img_layers),
            Linear(config.hidden, flat),
        )
        self.posterior_net = Posterior(config.deter, embed, config.hidden, config.obs_layers, flat)

    def embed_action(self, action: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch hidden"]:
        """The recurrent cell's view of an action vector, which is shrunk to [-1, 1] without touching its gradient."""
        return self.cell.embed_action(action / action.abs().clamp(min=1).detach())

    def prior(self, deter: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch S K"]:
        return self.prior_net(deter).float().unflatten(-1, (self.stoch, self.classes))

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
        keep = (~is_first).float().unsqueeze(-1)
        actions = self.embed_action(prev_action * keep).unbind(1)
        noises = [None] * len(actions) if noise is None else noise.unbind(1)
        shares = self.posterior_net.embed_share(embed).transpose(0, 1)
        layers = {**self.cell.layers(), **self.posterior_net.layers(shares)}
        loop = Loop(layers, len(actions), len(embed), recurrent_dtype(embed.device))
        deter, stoch = start.deter.detach(), start.stoch.detach().flatten(1)  # no gradient enters what replay stored
        if torch.is_grad_enabled():  # as later states do: torch.compile then sees steps that are all alike
            deter, stoch = deter.requires_grad_(), stoch.requires_grad_()
        rows = list(zip(loop.biases, keep.unbind(1), actions, noises, strict=True))
        deters, stochs, logits = [], [], []
        with torch.autocast(embed.device.type, enabled=False):
            for first in range(0, len(rows), ROWS_AT_ONCE):
                piece = rows[first : first + ROWS_AT_ONCE]
                for h, z, logit, inputs in self.observe_rows(loop.weights, piece, deter, stoch):
                    loop.record(inputs)
                    deters.append(h)
                    stochs.append(z)
                    logits.append(logit)
                deter, stoch = deters[-1], stochs[-1].flatten(1)
        return Latent(torch.stack(deters, 1), torch.stack(stochs, 1)), torch.stack(logits, 1)

    def observe_rows(
        self,
        weights: dict[str, tuple[Tensor, ...]],
        rows: list[tuple[dict[str, Tensor], Tensor, Tensor, Tensor | None]],
        deter: Float[Tensor, "N D"],
        stoch: Float[Tensor, "N Z"],
    ) -> list[tuple[Tensor, Tensor, Tensor, dict[str, tuple[Tensor, ...]]]]:
        """`observe_step` for each of some rows: the biases of its layers, whether it keeps the state, action, noise."""
        steps = []
        for biases, keep, action, noise in rows:
            step = self.observe_step(weights, biases, deter * keep, stoch * keep, action, noise)
            deter, stoch = step[0], step[1].flatten(1)
            steps.append(step)
        return steps

    def observe_step(
        self,
        weights: dict[str, tuple[Tensor, ...]],
        biases: dict[str, Tensor],
        deter: Float[Tensor, "N D"],
        stoch: Float[Tensor, "N Z"],
        action: Float[Tensor, "N hidden"],
        noise: Float[Tensor, "N S"] | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, tuple[Tensor, ...]]]:
        """One row: h from the state before, z from h and the embedding. Also logits, and what went into the layers."""
        layer = Step(weights, biases)
        deter = self.cell.step(deter, stoch, action, layer)
        logit = self.posterior_net.step(deter, layer).float().unflatten(-1, (self.stoch, self.classes))
        return deter, straight_through(logit, self.unimix, noise), logit, layer.inputs

    def imagine_step(self, latent: Latent, action: Float[Tensor, "N A"]) -> Latent:
        """One step without an observation, z drawn from the prior."""
        deter = self.cell(latent.deter, latent.stoch.flatten(1), self.embed_action(action))
        return Latent(deter, straight_through(self.prior(deter), self.unimix))

"""The block-diagonal recurrent cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.nn.layers import BlockLinear, Dense, Linear, RMSNorm
from dreamer.nn.through_time import Affine, apply


class BlockGRU(nn.Module):
    """h' = k * tanh(sigmoid(reset) * cand) + (1 - k) * h,  k = sigmoid(update - 1).

    The three gates come from h, z and the action: each is embedded to `hidden`, all three are appended to each of the
    `blocks` chunks of h, and block-linear layers mix within a chunk only. The gate layer has no norm.
    deter [N D], stoch flat [N S*K], embedded action [N hidden] -> deter [N D]
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

    def layers(self) -> dict[str, Affine]:
        """The layers that `step` applies, by name."""
        layers: dict[str, Linear | BlockLinear] = {
            "deter": self.embed_deter.linear,
            "stoch": self.embed_stoch.linear,
            **{f"hidden{i}": cast(BlockLinear, layer) for i, layer in enumerate(self.hidden)},
            "gates": self.gates,
        }
        return {name: layer.affine() for name, layer in layers.items()}

    def forward(
        self, deter: Float[Tensor, "N D"], stoch: Float[Tensor, "N Z"], action: Float[Tensor, "N hidden"]
    ) -> Float[Tensor, "N D"]:
        """`action` is `embed_action(action vector)`: it needs no state, so a whole sequence is embedded at once."""
        return self.step(deter, stoch, action, apply(self.layers()))

    def step(
        self,
        deter: Float[Tensor, "N D"],
        stoch: Float[Tensor, "N Z"],
        action: Float[Tensor, "N hidden"],
        layer: Callable[..., Tensor],
    ) -> Float[Tensor, "N D"]:
        """`forward`, where layer(name, inputs) applies one of `layers`."""
        from_deter = F.silu(self.embed_deter.norm(layer("deter", deter)))
        from_stoch = F.silu(self.embed_stoch.norm(layer("stoch", stoch)))
        x, shared = deter, (torch.cat([from_deter, from_stoch, action.to(from_deter.dtype)], dim=-1),)
        for i, norm in enumerate(self.hidden_norms):
            x, shared = F.silu(norm(layer(f"hidden{i}", x, *shared))), ()
        gates = layer("gates", x).float().unflatten(-1, (self.blocks, 3, -1))
        reset, cand, update = gates.unbind(-2)
        cand = 2 * torch.sigmoid(2 * torch.sigmoid(reset) * cand) - 1  # tanh, which costs six times as much on a CPU
        old = deter.float().unflatten(-1, (self.blocks, -1))
        return torch.lerp(old, cand, torch.sigmoid(update - 1)).flatten(-2)

"""The block-diagonal recurrent cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.nn.layers import BlockLinear, Dense, RMSNorm


class BlockGRU(nn.Module):
    """h' = k * tanh(sigmoid(reset) * cand) + (1 - k) * h,  k = sigmoid(update - 1).

    The three gates come from h, z and the action: each is embedded to `hidden`, all three are appended to each of the
    `blocks` chunks of h, and block-linear layers mix within a chunk only. The gate layer has no norm.
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

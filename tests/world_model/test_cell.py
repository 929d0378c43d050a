"""The recurrent cell against section 4 of the specification, one group at a time."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer.nn.layers import RMSNorm
from dreamer.world_model.rssm import BlockGRU


def rms_norm(x: Tensor, norm: RMSNorm) -> Tensor:
    return x / torch.sqrt((x**2).mean(-1, keepdim=True) + 1e-4) * norm.scale


def slow_cell(cell: BlockGRU, h: Tensor, z: Tensor, a: Tensor) -> Tensor:
    groups, width = cell.blocks, h.shape[-1] // cell.blocks
    u = []
    for layer, x in ((cell.embed_deter, h), (cell.embed_stoch, z), (cell.embed_action, a)):
        u.append(F.silu(rms_norm(x @ layer.linear.weight.T + layer.linear.bias, layer.norm)))
    chunks = [torch.cat([h[:, g * width : (g + 1) * width], *u], -1) for g in range(groups)]
    for layer, norm in zip(cell.hidden, cell.hidden_norms, strict=True):
        outputs = [chunk @ layer.weight[g] for g, chunk in enumerate(chunks)]
        x = F.silu(rms_norm(torch.cat(outputs, -1) + layer.bias, norm))
        chunks = [x[:, g * width : (g + 1) * width] for g in range(groups)]
    new = []
    for g, chunk in enumerate(chunks):
        gates = chunk @ cell.gates.weight[g] + cell.gates.bias[3 * width * g : 3 * width * (g + 1)]
        reset, cand, update = gates[:, :width], gates[:, width : 2 * width], gates[:, 2 * width :]
        k = torch.sigmoid(update - 1)
        new.append(k * torch.tanh(torch.sigmoid(reset) * cand) + (1 - k) * h[:, g * width : (g + 1) * width])
    return torch.cat(new, -1)


@pytest.mark.parametrize("layers", [1, 2])
def test_cell_equals_a_loop_over_its_groups(layers: int) -> None:
    cell = BlockGRU(deter=20, stoch=9, hidden=6, action=2, blocks=4, layers=layers)
    for param in cell.parameters():
        torch.nn.init.normal_(param, std=0.7)
    h, z, a = torch.randn(3, 20), torch.randn(3, 9), torch.randn(3, 2)
    torch.testing.assert_close(cell(h, z, a), slow_cell(cell, h, z, a), rtol=1e-5, atol=1e-5)


def test_a_fresh_cell_keeps_most_of_its_state() -> None:
    cell = BlockGRU(deter=20, stoch=9, hidden=6, action=2, blocks=4)
    torch.nn.init.zeros_(cell.gates.weight)
    h = torch.randn(3, 20)
    # All gates 0: cand 0, update sigmoid(-1) = 0.2689.
    new = cell(h, torch.randn(3, 9), torch.randn(3, 2))
    torch.testing.assert_close(new, h * (1 - torch.sigmoid(torch.tensor(-1.0))))

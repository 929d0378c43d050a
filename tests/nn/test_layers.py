"""Layers against references written out at length."""

import math

import pytest
import torch

from dreamer.nn.layers import MLP, BlockLinear, RMSNorm


def test_shared_inputs_of_a_block_linear_layer_are_appended_to_every_chunk() -> None:
    layer = BlockLinear(12, 8, blocks=4, shared=5)
    torch.nn.init.normal_(layer.bias)
    x, shared = torch.randn(2, 3, 12, requires_grad=True), torch.randn(2, 3, 5, requires_grad=True)
    # Dense reference: an input [x0 shared x1 shared ...] and a matrix that is zero outside its four blocks.
    wide = torch.cat([torch.cat([chunk, shared], -1) for chunk in x.split(3, dim=-1)], -1)
    expected = wide @ torch.block_diag(*layer.weight) + layer.bias
    weight = torch.randn_like(expected)
    leaves = (x, shared, layer.weight, layer.bias)
    got = layer(x, shared)
    torch.testing.assert_close(got, expected)
    pairs = zip(
        torch.autograd.grad((got * weight).sum(), leaves), torch.autograd.grad((expected * weight).sum(), leaves),
        strict=True,
    )  # fmt: skip
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_weights_of_a_block_linear_layer_scale_with_its_full_input() -> None:
    layer = BlockLinear(64, 640, blocks=8, shared=24)
    # Eight blocks that each see 8 + 24 inputs: fan-in 256, not 32.
    assert layer.weight.std().item() == pytest.approx(1 / math.sqrt(256), rel=0.03)


def test_rms_norm_by_hand_and_its_precision() -> None:
    norm = RMSNorm(2)
    # mean(3^2, 4^2) = 12.5
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([3.0, 4.0]) / math.sqrt(12.5 + 1e-4))
    assert norm(torch.ones(2, dtype=torch.bfloat16)).dtype == torch.bfloat16
    # In bfloat16 itself, 4096 squares of 1e-2 would stop adding up near 0.02.
    wide = torch.full((4096,), 0.1, dtype=torch.bfloat16)
    torch.testing.assert_close(RMSNorm(4096)(wide).float(), torch.ones(4096), rtol=1e-2, atol=0)


def test_mlp_without_layers_passes_its_input_on() -> None:
    mlp, x = MLP(7, 3, layers=0), torch.randn(2, 7)
    assert mlp.out_features == 7
    assert torch.equal(mlp(x), x)

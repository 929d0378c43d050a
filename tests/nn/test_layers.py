"""Layers against slow references written out index by index."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from dreamer.nn.layers import MLP, BlockLinear, Conv, RMSNorm


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


def slow_convolution(image: Tensor, conv: Conv, before: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """out[y, x] = bias + sum of weight[j, i] image[stride y + j - before_y, stride x + i - before_x]; image [h w c]."""
    stride = 1 if conv.transposed else conv.stride
    height, width, _ = image.shape
    out = conv.bias.expand(*size, -1).clone()
    for y, x, j, i in itertools.product(range(size[0]), range(size[1]), range(conv.kernel), range(conv.kernel)):
        row, column = stride * y + j - before[0], stride * x + i - before[1]
        if 0 <= row < height and 0 <= column < width:
            out[y, x] += conv.weight[:, :, j, i] @ image[row, column]
    return out


@torch.no_grad()
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(5, 7), (6, 4), (1, 2)])
def test_convolution_of_any_size_pads_less_before_than_after(kernel: int, stride: int, size: tuple[int, int]) -> None:
    conv = Conv(2, 3, kernel, stride)
    torch.nn.init.normal_(conv.bias)
    image = torch.randn(1, *size, 2)
    outputs = [-(-n // stride) for n in size]
    before = [max((m - 1) * stride + kernel - n, 0) // 2 for m, n in zip(outputs, size, strict=True)]
    expected = slow_convolution(image[0], conv, (before[0], before[1]), (outputs[0], outputs[1]))
    torch.testing.assert_close(conv(image)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(5, 7), (4, 4), (1, 3)])
def test_transposed_convolution_puts_values_at_odd_places(kernel: int, size: tuple[int, int]) -> None:
    conv = Conv(2, 3, kernel, stride=2, transposed=True)
    torch.nn.init.normal_(conv.bias)
    image = torch.randn(1, *size, 2)
    spread = torch.zeros(2 * size[0], 2 * size[1], 2)
    spread[1::2, 1::2] = image[0]
    before = kernel // 2
    expected = slow_convolution(spread, conv, (before, before), (2 * size[0], 2 * size[1]))
    torch.testing.assert_close(conv(image)[0], expected)


def test_convolution_of_96_pixels() -> None:
    image = torch.randn(1, 96, 96, 1)
    assert Conv(1, 2, 5)(image).shape == (1, 96, 96, 2)
    assert Conv(1, 2, 5, stride=2)(image).shape == (1, 48, 48, 2)
    assert Conv(1, 2, 5, stride=2, transposed=True)(image).shape == (1, 192, 192, 2)


def test_mlp_without_layers_passes_its_input_on() -> None:
    mlp, x = MLP(7, 3, layers=0), torch.randn(2, 7)
    assert mlp.out_features == 7
    assert torch.equal(mlp(x), x)

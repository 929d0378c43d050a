"""Convolutions against a slow reference written out index by index, and against torch's plain operators."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer.nn.convs import Conv, PoolConv, StridedConv, UpConv, mirrored


def slow_convolution(image: Tensor, conv: Conv, stride: int, before: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """out[y, x] = bias + sum of weight[j, i] image[stride y + j - before_y, stride x + i - before_x]; image [h w c]."""
    height, width, _ = image.shape
    out = conv.bias.expand(*size, -1).clone()
    for y, x, j, i in itertools.product(range(size[0]), range(size[1]), range(conv.kernel), range(conv.kernel)):
        row, column = stride * y + j - before[0], stride * x + i - before[1]
        if 0 <= row < height and 0 <= column < width:
            out[y, x] += conv.weight[:, :, j, i] @ image[row, column]
    return out


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("size", [(5, 7), (6, 4), (1, 2)])
def test_convolution_keeps_the_size(kernel: int, size: tuple[int, int]) -> None:
    conv = Conv(2, 3, kernel)
    nn.init.normal_(conv.bias)
    image = torch.randn(1, *size, 2)
    expected = slow_convolution(image[0], conv, 1, (kernel // 2, kernel // 2), size)
    torch.testing.assert_close(conv(image)[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("size", [(2, 2), (6, 4), (8, 10)])
def test_strided_convolution_pads_one_less_before_than_after(kernel: int, size: tuple[int, int]) -> None:
    conv = StridedConv(2, 3, kernel)
    nn.init.normal_(conv.bias)
    image = torch.randn(1, *size, 2)
    before = kernel // 2 - 1
    expected = slow_convolution(image[0], conv, 2, (before, before), (size[0] // 2, size[1] // 2))
    torch.testing.assert_close(mirrored(conv(mirrored(image)))[0], expected)


@torch.no_grad()
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(5, 7), (4, 4), (1, 3)])
def test_transposed_convolution_puts_values_at_odd_places(kernel: int, size: tuple[int, int]) -> None:
    conv = UpConv(2, 3, kernel, transposed=True)
    nn.init.normal_(conv.bias)
    image = torch.randn(1, *size, 2)
    spread = torch.zeros(2 * size[0], 2 * size[1], 2)
    spread[1::2, 1::2] = image[0]
    before = kernel // 2
    expected = slow_convolution(spread, conv, 1, (before, before), (2 * size[0], 2 * size[1]))
    torch.testing.assert_close(conv(image)[0], expected)


def assert_equal_with_gradients(conv: nn.Module, image: Tensor, got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    weight, leaves = torch.randn_like(expected), [image, *conv.parameters()]
    ours = torch.autograd.grad((got * weight).sum(), leaves)
    theirs = torch.autograd.grad((expected * weight).sum(), leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("size", [(5, 7), (4, 4), (1, 3)])
def test_convolution_of_a_doubled_image_equals_doubling_first(kernel: int, size: tuple[int, int]) -> None:
    conv = UpConv(4, 3, kernel)
    nn.init.normal_(conv.bias)
    image = torch.randn(2, *size, 4, requires_grad=True)
    double = F.interpolate(image.permute(0, 3, 1, 2), scale_factor=2, mode="nearest")
    expected = F.conv2d(double, conv.weight, conv.bias, padding=kernel // 2).permute(0, 2, 3, 1)
    assert_equal_with_gradients(conv, image, conv(image), expected)


def test_convolutions_of_96_pixels() -> None:
    image = torch.randn(1, 96, 96, 1)
    assert Conv(1, 2, 5)(image).shape == (1, 96, 96, 2)
    assert StridedConv(1, 2, 5)(image).shape == (1, 48, 48, 2)
    assert PoolConv(1, 2, 5)(image).shape == (1, 48, 48, 2)
    assert UpConv(1, 2, 5)(image).shape == (1, 192, 192, 2)
    assert UpConv(1, 2, 5, transposed=True)(image).shape == (1, 192, 192, 2)

"""Squares of pixels, and the layers over them, against loops and against a strided convolution."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dreamer.nn.layers import Linear
from dreamer.nn.patches import join_patches, split_patches


@pytest.mark.parametrize("side", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_square_becomes_the_channels_of_one_pixel(side: int, channels: int, dtype: torch.dtype) -> None:
    image = torch.randint(0, 256, (2, 3, 4 * side, 2 * side, channels)).to(dtype)
    split = split_patches(image, side)
    assert split.shape == (2, 3, 4, 2, side * side * channels) and split.dtype == dtype
    for row in range(4):
        for column in range(2):
            square = image[..., row * side : (row + 1) * side, column * side : (column + 1) * side, :]
            assert torch.equal(split[..., row, column, :], square.flatten(-3))
    assert torch.equal(join_patches(split, side), image)


@torch.no_grad()
def test_a_layer_over_squares_is_a_convolution_with_kernel_and_stride_of_their_side() -> None:
    layer, image = Linear(4 * 4 * 3, 5), torch.randn(2, 8, 12, 3)
    nn.init.normal_(layer.bias)
    weight = layer.weight.unflatten(1, (4, 4, 3)).permute(0, 3, 1, 2)
    expected = F.conv2d(image.permute(0, 3, 1, 2), weight, layer.bias, stride=4).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(split_patches(image, 4)), expected)

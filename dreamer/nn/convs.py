"""Convolutions of images, in forms that are exact and fast: plain, with a pool after it, and on a doubled image."""

from __future__ import annotations

from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dreamer.nn.layers import init_weight_
from dreamer.nn.patches import join_patches


class Conv(nn.Module):
    """Convolution of [N h w c] images with stride 1 and 'same' padding.

    weight [out, in, k, k]; k is odd
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        init_weight_(self.weight, kernel * kernel * in_channels)

    def forward(self, x: Float[Tensor, "N h w c"]) -> Float[Tensor, "N h w c2"]:
        # [N h w c] read as [N c h w] is torch's channels_last layout, so these permutes copy nothing.
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, padding=self.kernel // 2)
        return y.permute(0, 2, 3, 1)


class StridedConv(Conv):
    """Convolution with stride 2 and 'same' padding of a `mirrored` image of even size; the result is mirrored too.

    'same' pads one pixel less before than after, torch as many on both sides; of those behind, stride 2 leaves the last
    one unused. On the mirrored image these are the windows of 'same', and no padded copy is made.
    """

    def forward(self, x: Float[Tensor, "N h w c"]) -> Float[Tensor, "N h/2 w/2 c2"]:
        weight = self.weight.flip(2, 3)
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias, stride=2, padding=self.kernel // 2)
        return y.permute(0, 2, 3, 1)


class PoolConv(Conv):
    """Convolution with stride 1 and 'same' padding, then 2x2 max-pool."""

    def forward(self, x: Float[Tensor, "N h w c"]) -> Float[Tensor, "N h/2 w/2 c2"]:
        return F.max_pool2d(super().forward(x).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


class UpConv(Conv):
    """An image doubled in height and width, then a convolution with stride 1 and 'same' padding.

    Doubled by repeating pixels (nearest), or with `transposed` by zeros, values at odd positions (the kernel is not
    flipped). Computed on the small image, in a tenth to a half of the time (32 to 4 pixels, one core): a kernel over
    doubled pixels has fewer distinct taps, other ones for each of the four `phases` (even and odd rows and columns).
    weight [out, in, k, k]
    """

    fold: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel: int, transposed: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel)
        fold = torch.zeros(2, 2 * _reach(kernel) + 1, kernel)
        for phase, tap in product(range(2), range(kernel)):
            pixel, is_odd = divmod(phase + tap - kernel // 2, 2)
            if is_odd or not transposed:
                fold[phase, pixel + _reach(kernel), tap] = 1
        self.register_buffer("fold", fold, persistent=False)

    def forward(self, x: Float[Tensor, "N h w c"]) -> Float[Tensor, "N height width c2"]:
        return join_patches(self.phases(x), 2)

    def phases(self, x: Float[Tensor, "N h w c"]) -> Float[Tensor, "N h w c4"]:
        """The result before its rows and columns are joined, which takes a copy."""
        weight = torch.einsum("pat,qbu,oitu->pqoiab", self.fold, self.fold, self.weight).flatten(0, 2)
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, self.bias.repeat(4), padding=_reach(self.kernel))
        return y.permute(0, 2, 3, 1)


def mirrored(image: Shaped[Tensor, "*batch h w c"]) -> Shaped[Tensor, "*batch h w c"]:
    """Rows and columns in reverse order."""
    return image.flip(-3, -2)


def _reach(kernel: int) -> int:
    """How many pixels a kernel over a doubled image reaches to each side, in pixels of the small one."""
    return (kernel // 2 + 1) // 2

"""Images as squares of pixels side by side, and a layer that is one matrix product for all of them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dreamer.nn.layers import Linear

WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)


def split_patches(image: Shaped[Tensor, "*batch height width c"], side: int) -> Shaped[Tensor, "*batch h w channels"]:
    """Each square of `side` by `side` pixels becomes one pixel with its values as channels, upper row first."""
    rows = image.unflatten(-2, (-1, side)).flatten(-2).unflatten(-3, (-1, side))  # [*batch h side w side*c]
    word = next(word for word in WORDS if rows.shape[-1] % word.itemsize == 0)
    if image.dtype == torch.uint8:  # moved by several bytes, which compiled code does ten times faster than one by one
        return torch.cat(rows.contiguous().view(word).unbind(-3), dim=-1).view(torch.uint8)
    return torch.cat(rows.unbind(-3), dim=-1)


def join_patches(image: Shaped[Tensor, "*batch h w channels"], side: int) -> Shaped[Tensor, "*batch height width c"]:
    """The inverse of `split_patches`."""
    return image.unflatten(-1, (side, side, -1)).transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)


class PatchDown(nn.Module):
    """A linear layer over each square of `side` by `side` pixels: a convolution with kernel and stride `side`."""

    def __init__(self, in_channels: int, out_channels: int, side: int) -> None:
        super().__init__()
        self.side = side
        self.linear = Linear(side * side * in_channels, out_channels)

    def forward(self, x: Float[Tensor, "N height width c"]) -> Float[Tensor, "N h w c2"]:
        return self.linear(split_patches(x, self.side))

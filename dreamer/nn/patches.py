"""Images as squares of pixels side by side: a layer over squares is one matrix product."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

WORDS = (torch.int64, torch.int32, torch.int16, torch.uint8)


def split_patches(image: Shaped[Tensor, "*batch height width c"], side: int) -> Shaped[Tensor, "*batch h w channels"]:
    """Each square of `side` by `side` pixels becomes one pixel with its values as channels, upper row first."""
    rows = image.unflatten(-2, (-1, side)).flatten(-2).unflatten(-3, (-1, side))  # [*batch h side w side*c]
    # Moved by several bytes, which compiled code does ten times faster than one by one, and ONNX has no word for.
    if image.dtype == torch.uint8 and not torch.compiler.is_exporting():
        word = next(word for word in WORDS if rows.shape[-1] % word.itemsize == 0)
        return torch.cat(rows.contiguous().view(word).unbind(-3), dim=-1).view(torch.uint8)
    return torch.cat(rows.unbind(-3), dim=-1)


def join_patches(image: Shaped[Tensor, "*batch h w channels"], side: int) -> Shaped[Tensor, "*batch height width c"]:
    """The inverse of `split_patches`."""
    return image.unflatten(-1, (side, side, -1)).transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)

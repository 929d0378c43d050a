"""Observations to one embedding: a convolutional network for images, an MLP for everything else."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.config.schema import EncoderConfig
from dreamer.nn.convs import PoolConv, StridedConv, mirrored
from dreamer.nn.distributions import one_hot
from dreamer.nn.layers import MLP, Dense, RMSNorm
from dreamer.nn.patches import split_patches
from dreamer.ops.symlog import symlog
from dreamer.types import Space


class Encoder(nn.Module):
    """obs: key -> [B T ...] -> embed [B T E]; vector features come before image features.

    Keys are sorted; vectors are symlogged, discrete entries one-hot, all concatenated; images are stacked on channels.
    """

    def __init__(self, config: EncoderConfig, obs_space: dict[str, Space], units: int, depth: int) -> None:
        super().__init__()
        self.spaces = dict(sorted(obs_space.items()))
        self.image_keys = [key for key, space in self.spaces.items() if space.is_image]
        self.vector_keys = [key for key, space in self.spaces.items() if not space.is_image]
        self.out_features = 0
        if self.vector_keys:
            size = sum(self.spaces[key].size for key in self.vector_keys)
            self.vector = MLP(size, units, config.layers)
            self.out_features += units
        if self.image_keys:
            network = PatchEncoder if config.patch else ImageEncoder
            self.image = network(config, [self.spaces[key] for key in self.image_keys], depth)
            self.out_features += self.image.out_features

    def forward(self, obs: dict[str, Tensor]) -> Float[Tensor, "B T E"]:
        parts = []
        if self.vector_keys:
            parts.append(self.vector(torch.cat([self.flat_vector(key, obs[key]) for key in self.vector_keys], dim=-1)))
        if self.image_keys:
            parts.append(self.image(torch.cat([obs[key] for key in self.image_keys], dim=-1)))
        return torch.cat(parts, dim=-1)

    def flat_vector(self, key: str, value: Tensor) -> Float[Tensor, "B T size"]:
        space = self.spaces[key]
        if space.is_discrete:
            parts = [one_hot(value[..., i], classes) for i, classes in enumerate(space.classes)]
            return torch.cat(parts, dim=-1)
        return symlog(value.float()).reshape(*value.shape[: value.dim() - len(space.shape)], space.size)


class ImageEncoder(nn.Module):
    """Stages of 5x5 convolution, 2x2 max-pool, norm, SiLU; `strided`: stride-2 convolutions (mirrored) and no pool.

    image uint8 [B T h w c] -> [B T (h / 2^stages) (w / 2^stages) channels], flattened in this order.
    """

    def __init__(self, config: EncoderConfig, spaces: list[Space], depth: int) -> None:
        super().__init__()
        channels = [sum(space.shape[2] for space in spaces), *(depth * mult for mult in config.mults)]
        self.strided = config.strided
        conv = StridedConv if config.strided else PoolConv
        self.convs = nn.ModuleList(conv(before, after, config.kernel) for before, after in pairwise(channels))
        self.norms = nn.ModuleList(RMSNorm(size) for size in channels[1:])
        height, width, _ = spaces[0].shape
        self.out_features = (height >> len(config.mults)) * (width >> len(config.mults)) * channels[-1]

    def forward(self, image: Tensor) -> Float[Tensor, "B T E"]:
        x = image.flatten(0, 1).float() / 255 - 0.5
        if self.strided:
            x = mirrored(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.silu(norm(conv(x)))
        if self.strided:
            x = mirrored(x)
        return x.flatten(1).unflatten(0, image.shape[:2])


class PatchEncoder(nn.Module):
    """Stages of `Dense` layers: over squares of `config.patch` pixels, then of 2 by 2 pixels.

    image uint8 [B T h w c] -> [B T (h / patch / 2^(stages - 1)) (the same of w) channels], flattened in this order.
    """

    def __init__(self, config: EncoderConfig, spaces: list[Space], depth: int) -> None:
        super().__init__()
        channels = [sum(space.shape[2] for space in spaces), *(depth * mult for mult in config.mults)]
        first, *others = pairwise(channels)
        self.side = config.patch
        self.first = Dense(self.side**2 * first[0], first[1])
        self.others = nn.ModuleList(Dense(4 * before, after) for before, after in others)
        height, width, _ = spaces[0].shape
        factor = self.side * 2 ** len(others)
        self.out_features = (height // factor) * (width // factor) * channels[-1]

    def forward(self, image: Tensor) -> Float[Tensor, "B T E"]:
        squares = split_patches(image.flatten(0, 1), self.side)  # of bytes, a quarter of what floats would move
        x = self.first(squares.float() / 255 - 0.5)
        for stage in self.others:
            x = stage(split_patches(x, 2))
        return x.flatten(1).unflatten(0, image.shape[:2])

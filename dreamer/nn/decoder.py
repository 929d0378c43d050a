"""Latents back to observations, and the reconstruction losses."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from dreamer.config.schema import DecoderConfig
from dreamer.nn.convs import UpConv
from dreamer.nn.layers import MLP, BlockLinear, Dense, Linear, RMSNorm
from dreamer.nn.patches import join_patches, split_patches
from dreamer.ops.symlog import symexp, symlog
from dreamer.types import Latent, Space


class Decoder(nn.Module):
    """deter [B T D], stoch [B T S K] -> key -> prediction in network space.

    Network space is what the loss compares: vectors symlogged, discrete entries as logits, images in [0, 1] and as the
    last layer leaves them, [B T h/2 w/2 4*c]. `observations` has them as the encoder sees them.
    """

    def __init__(
        self, config: DecoderConfig, obs_space: dict[str, Space], deter: int, stoch: int, units: int, depth: int
    ) -> None:
        super().__init__()
        self.spaces, self.every = dict(sorted(obs_space.items())), config.every
        self.image_keys = [key for key, space in self.spaces.items() if space.is_image]
        self.vector_keys = [key for key, space in self.spaces.items() if not space.is_image]
        if self.vector_keys:
            self.mlp = MLP(stoch + deter, units, config.layers)
            sizes = {key: self.spaces[key].size for key in self.vector_keys}
            self.vectors = nn.ModuleDict({module_name(key): Linear(units, size) for key, size in sizes.items()})
        if self.image_keys:
            self.image = ImageDecoder(config, [self.spaces[key] for key in self.image_keys], deter, stoch, units, depth)

    def forward(self, latent: Latent) -> dict[str, Tensor]:
        stoch = latent.stoch.flatten(-2)
        return {**self.predict_vectors(latent.deter, stoch), **self.predict_images(latent.deter, stoch)}

    def predict_vectors(self, deter: Float[Tensor, "B T D"], stoch: Float[Tensor, "B T Z"]) -> dict[str, Tensor]:
        if not self.vector_keys:
            return {}
        x = self.mlp(torch.cat([stoch, deter], dim=-1))  # z before h, the reverse of the heads
        return {key: self.vectors[module_name(key)](x).float() for key in self.vector_keys}

    def predict_images(self, deter: Float[Tensor, "B T D"], stoch: Float[Tensor, "B T Z"]) -> dict[str, Tensor]:
        if not self.image_keys:
            return {}
        image = self.image(deter.flatten(0, 1), stoch.flatten(0, 1)).unflatten(0, stoch.shape[:2])
        sizes = [self.spaces[key].shape[2] for key in self.image_keys]
        parts = image.unflatten(-1, (4, -1)).split(sizes, dim=-1)
        return {key: part.flatten(-2) for key, part in zip(self.image_keys, parts, strict=True)}

    def losses(self, latent: Latent, obs: dict[str, Tensor]) -> dict[str, Float[Tensor, "B _"]]:
        """`errors` of what the latents predict: of vectors in every row, of images in those of `reconstructed_rows`."""
        deter, stoch = latent.deter, latent.stoch.flatten(-2)
        rows = self.reconstructed_rows(deter)
        images = self.predict_images(deter[:, rows], stoch[:, rows])
        vectors = self.errors(self.predict_vectors(deter, stoch), obs)
        return {**vectors, **self.errors(images, {key: obs[key][:, rows] for key in images})}

    def reconstructed_rows(self, deter: Float[Tensor, "B T D"]) -> Tensor | slice:
        """One in `config.every` time steps, from a random first one, so that the mean loss is the same on average."""
        if self.every == 1:
            return slice(None)
        first = torch.randint(self.every, (), device=deter.device)
        return torch.arange(0, deter.shape[1] - self.every + 1, self.every, device=deter.device) + first

    def errors(self, outputs: dict[str, Tensor], obs: dict[str, Tensor]) -> dict[str, Float[Tensor, "B T"]]:
        """Squared error summed over the dimensions of each key (no 1/2); cross-entropy for discrete entries."""
        losses = {}
        for key, output in outputs.items():
            space, target = self.spaces[key], obs[key]
            if space.is_discrete:
                logits = output.split(space.classes, dim=-1)
                parts = [
                    F.cross_entropy(part.flatten(0, 1), target[..., i].flatten().long(), reduction="none")
                    for i, part in enumerate(logits)
                ]
                losses[key] = torch.stack(parts).sum(0).unflatten(0, target.shape[:2])
            elif space.is_image:
                pixels = split_patches(target, 2).float() / 255
                losses[key] = (output - pixels).square().sum((2, 3, 4))
            else:
                losses[key] = (output - symlog(target.float()).reshape(output.shape)).square().sum(-1)
        return losses

    def observations(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Predictions in the encoder's units: images in [0, 1], vectors before symlog, class indices."""
        values = {}
        for key, output in outputs.items():
            space = self.spaces[key]
            if space.is_discrete:
                values[key] = torch.stack([part.argmax(-1) for part in output.split(space.classes, dim=-1)], dim=-1)
            elif space.is_image:
                values[key] = join_patches(output, 2)
            else:
                values[key] = symexp(output).unflatten(-1, space.shape) if space.shape else symexp(output).squeeze(-1)
        return values


def module_name(key: str) -> str:
    """An observation key as torch takes it for a submodule: without dots, and not the name of a method."""
    name = key.replace(".", "/")
    return f"{name}/" if hasattr(nn.ModuleDict(), name) else name


class ImageDecoder(nn.Module):
    """A small map from h (block-linear) and z (two layers), then stages of doubling and 5x5 convolution, sigmoid.

    deter [N D], stoch flat [N S*K] -> [N h/2 w/2 4*c] in [0, 1], rows and columns not joined yet
    """

    def __init__(
        self, config: DecoderConfig, spaces: list[Space], deter: int, stoch: int, units: int, depth: int
    ) -> None:
        super().__init__()
        self.blocks = config.blocks
        channels = [depth * mult for mult in config.mults]
        height, width, _ = spaces[0].shape
        self.start = (height >> len(channels), width >> len(channels), channels[-1])
        size = self.start[0] * self.start[1] * self.start[2]
        self.from_deter = BlockLinear(deter, size, config.blocks)
        self.from_stoch = nn.Sequential(Dense(stoch, 2 * units), Linear(2 * units, size))
        self.start_norm = RMSNorm(channels[-1])
        outputs = [sum(space.shape[2] for space in spaces), *channels[:-1]]
        self.convs = nn.ModuleList(
            UpConv(before, after, config.kernel, transposed=config.strided)
            for before, after in zip(reversed(channels), reversed(outputs), strict=True)
        )
        self.norms = nn.ModuleList(RMSNorm(size) for size in reversed(channels[:-1]))

    def forward(self, deter: Float[Tensor, "N D"], stoch: Float[Tensor, "N Z"]) -> Float[Tensor, "N h w c4"]:
        height, width, channels = self.start
        x = self.from_deter(deter).reshape(-1, self.blocks, height, width, channels // self.blocks)
        x = x.permute(0, 2, 3, 1, 4).reshape(-1, height, width, channels)
        x = F.silu(self.start_norm(x + self.from_stoch(stoch).reshape(-1, height, width, channels)))
        *stages, last = cast(list[UpConv], list(self.convs))
        for conv, norm in zip(stages, self.norms, strict=True):
            x = F.silu(norm(conv(x)))
        return torch.sigmoid(last.phases(x).float())

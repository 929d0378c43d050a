"""Vector observations in units of their own spread."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from dreamer.types import Space

MIN_STD = 1e-3  # what varies less, or not at all, keeps its own unit


class Standardize(nn.Module):
    """obs -> obs, key -> [... x]: (x - mean) / std for each entry of continuous vectors; nothing else changes.

    mean and std are those of the rows that `fit` saw, and nothing changes before it is called. With `is_on` false there
    is nothing to fit and nothing in a checkpoint.
    Differs from the paper, which leaves scales to symlog: entries that vary little then count next to nothing in the
    encoder's input and in the reconstruction loss, and a latent leaves out what costs more nats than it saves.
    """

    mean: Tensor  # float32 [n], all keys one after another
    std: Tensor

    def __init__(self, obs_space: Mapping[str, Space], is_on: bool) -> None:
        super().__init__()
        keys = [key for key, space in sorted(obs_space.items()) if not (space.is_image or space.is_discrete)]
        self.shapes = {key: obs_space[key].shape for key in keys} if is_on else {}
        self.sizes = [obs_space[key].size for key in self.shapes]
        if self.shapes:
            self.register_buffer("mean", torch.zeros(sum(self.sizes)))
            self.register_buffer("std", torch.ones(sum(self.sizes)))

    def forward(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**obs, **{key: (obs[key].float() - mean) / std for key, mean, std in self._parts()}}

    def undo(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The reverse of `forward`."""
        return {**obs, **{key: obs[key] * std + mean for key, mean, std in self._parts()}}

    @torch.no_grad()
    def fit(self, rows: Mapping[str, Shaped[Tensor, "N ..."]]) -> None:
        """Take mean and standard deviation over the N rows of each key of `shapes`."""
        for key, mean, std in self._parts():
            x = rows[key].double()
            spread = x.std(0, correction=0)
            mean.copy_(x.mean(0))
            std.copy_(torch.where(spread < MIN_STD, 1.0, spread))

    def _parts(self) -> list[tuple[str, Tensor, Tensor]]:
        """Key, mean and std, in the key's own shape; views, so that they can be written to."""
        if not self.shapes:
            return []
        means, stds = self.mean.split(self.sizes), self.std.split(self.sizes)
        return [
            (key, mean.view(shape), std.view(shape))
            for (key, shape), mean, std in zip(self.shapes.items(), means, stds, strict=True)
        ]

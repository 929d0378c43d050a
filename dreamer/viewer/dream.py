"""Dreams: from a state on, the model alone, with the policy's actions or somebody else's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from dreamer.types import Latent
from dreamer.viewer.model import Model, Told


@dataclass
class DreamRow:
    """A point in time of N dreams. obs: pictures of the first few, vectors of all.

    action: what led here, [N n], None in the first row, where the dream begins and nothing is dreamed yet
    surprise: `Model.surprise` [N], None where nothing real was compared with
    """

    latent: Latent
    told: Told
    obs: dict[str, np.ndarray]
    action: np.ndarray | None
    surprise: np.ndarray | None


class Dream:
    """`count` dreams of one state [1], which part where their random numbers do. Row 0 is the state itself.

    `seed` decides all that is drawn. pictures: how many of the dreams are decoded as pictures.
    """

    def __init__(self, model: Model, start: Latent, count: int, seed: int, pictures: int) -> None:
        self._model, self.count, self._pictures = model, count, pictures
        self._generator = torch.Generator().manual_seed(seed)
        latent = Latent(start.deter.expand(count, -1), start.stoch.expand(count, -1, -1))
        self.rows = [self._row(latent, None, None)]

    def advance(self, action: np.ndarray | None = None, embed: Float[Tensor, "1 E"] | None = None) -> DreamRow:
        """Dream on by a step: with this action [n] in all dreams, or without it with the policy's own.

        embed: what the encoder made of what really followed; the dreams are not shown it, only measured by it.
        """
        latent, model, count = self.rows[-1].latent, self._model, self.count
        if action is None:
            actions = model.act(latent, self._noise_of_actions())
        else:
            actions = np.repeat(np.asarray(action, model.action_space.dtype)[None], count, axis=0)
        latent = model.imagine(latent, actions, torch.rand(count, model.rssm.stoch, generator=self._generator))
        self.rows.append(self._row(latent, actions, embed))
        return self.rows[-1]

    def cut(self, length: int) -> None:
        """Forget all but the first rows."""
        assert length >= 1
        del self.rows[length:]

    def _noise_of_actions(self) -> Tensor:
        space = self._model.action_space
        draw = torch.rand if space.is_discrete else torch.randn
        return draw(self.count, *space.shape, generator=self._generator)

    def _row(self, latent: Latent, action: np.ndarray | None, embed: Tensor | None) -> DreamRow:
        model = self._model
        surprise = None if embed is None else model.surprise(latent, embed)
        return DreamRow(latent, model.tell(latent), model.decode(latent, self._pictures), action, surprise)

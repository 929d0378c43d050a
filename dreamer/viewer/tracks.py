"""An episode and its dreams with the pictures that belong to each of their rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor

from dreamer.envs.spec import Env
from dreamer.types import Space
from dreamer.viewer.dream import Dream
from dreamer.viewer.episode import Episode
from dreamer.viewer.model import Model
from dreamer.viewer.pictures import Picture, Stage

LARGE, SMALL = 240, 128  # pixels of a pose: alone, and in a grid of dreams


class Lens:
    """Observations as a person looks at them: the pictures of the agent, or poses on a stage, and numbers in a row."""

    def __init__(self, obs_space: dict[str, Space], stage: Stage | None) -> None:
        self.stage = stage
        self.image_keys = [key for key, space in obs_space.items() if space.is_image]
        self.vector_keys = [key for key, space in obs_space.items() if not space.is_image]
        self.has_pictures = bool(self.image_keys) or stage is not None

    def picture(self, obs: Mapping[str, np.ndarray], place: float, size: int) -> Picture | None:
        """What this observation looks like; several pictures stand side by side. None where it is numbers alone."""
        if self.image_keys:
            parts = [Picture.of(obs[key]).pixels() for key in self.image_keys]
            return Picture.of(np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0])
        if self.stage is None:
            return None
        pixels = self.stage.draw(obs, place, size)
        return None if pixels is None else Picture.of(pixels)

    def moved(self, obs: Mapping[str, np.ndarray], place: float) -> float:
        return place if self.stage is None else self.stage.moved(obs, place)

    def vectors(self, obs: Mapping[str, np.ndarray], batch: tuple[int, ...] = ()) -> np.ndarray:
        """All numbers of an observation, float32 [*batch n], in the order of `labels`."""
        parts = [np.asarray(obs[key], np.float32).reshape(*batch, -1) for key in self.vector_keys]
        return np.concatenate(parts, -1) if parts else np.zeros((*batch, 0), np.float32)

    def labels(self, obs_space: dict[str, Space]) -> list[str]:
        """A name for each of these numbers: the key, with its place where it has several."""
        return [
            key if shape == () else f"{key}[{', '.join(map(str, place))}]"
            for key, shape in ((key, obs_space[key].shape) for key in self.vector_keys)
            for place in np.ndindex(*shape)
        ]


class RealTrack:
    """A real episode. pictures: of each row what was seen, and what the model reconstructs of it."""

    def __init__(self, model: Model, env: Env, lens: Lens, env_seed: int, seed: int) -> None:
        self._lens = lens
        self.episode = Episode(model, env, env_seed, seed, draws_frames=not lens.image_keys)
        self.pictures: list[tuple[Picture | None, Picture | None]] = []
        self.places: list[float] = []
        self._look()

    def __len__(self) -> int:
        return len(self.episode.rows)

    def advance(self) -> None:
        self.episode.advance()
        self._look()

    def _look(self) -> None:
        row, lens = self.episode.rows[-1], self._lens
        place = lens.moved(row.row.obs, self.places[-1]) if self.places else 0.0
        real = lens.picture(row.row.obs, place, LARGE) if lens.image_keys else None
        if row.frame is not None:
            real = Picture.of(row.frame)
        self.places.append(place)
        self.pictures.append((real, lens.picture(row.reconstruction, place, LARGE)))


class DreamTrack:
    """Dreams that part at row `start` of an episode. pictures: of each row those of the first `pictures` dreams."""

    def __init__(
        self, model: Model, lens: Lens, real: RealTrack, start: int, count: int, pictures: int, seed: int
    ) -> None:
        self.start, self.seed, self._lens = start, seed, lens
        self._num_pictures = pictures if lens.has_pictures else 0
        self.dream = Dream(model, real.episode.rows[start].seen.latent, count, seed, self._num_pictures)
        self.pictures: list[list[Picture | None]] = []
        self._places = [[real.places[start]] * self._num_pictures]
        self._look()

    def __len__(self) -> int:
        return len(self.dream.rows)

    def advance(self, action: np.ndarray | None = None, embed: Float[Tensor, "1 E"] | None = None) -> None:
        """`Dream.advance`, and a look at it."""
        self.dream.advance(action, embed)
        obs = self.dream.rows[-1].obs
        self._places.append([self._lens.moved(_one(obs, i), place) for i, place in enumerate(self._places[-1])])
        self._look()

    def cut(self, length: int) -> None:
        self.dream.cut(length)
        del self.pictures[length:], self._places[length:]

    def _look(self) -> None:
        obs, size = self.dream.rows[-1].obs, LARGE if self._num_pictures == 1 else SMALL
        places = enumerate(self._places[-1])
        self.pictures.append([self._lens.picture(_one(obs, index), place, size) for index, place in places])


def _one(obs: Mapping[str, np.ndarray], index: int) -> dict[str, np.ndarray]:
    """One of the dreams of a row."""
    return {key: value[index] for key, value in obs.items()}

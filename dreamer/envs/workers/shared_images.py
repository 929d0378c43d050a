"""Pictures on their way from one process to another, in memory that both see."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from dreamer.types import Space


class SharedImages:
    """Room for one observation's images, uint8 [h w c] by their keys; other keys are left alone.

    Who makes it without a `name` owns the memory, and others find it by `name`. Arrays over the memory live as long as
    a copy takes, since memory with an array over it cannot be given back.
    """

    def __init__(self, obs_space: dict[str, Space], name: str | None = None) -> None:
        self._spaces = {key: space for key, space in obs_space.items() if space.is_image}
        self._is_owner = name is None
        size = max(1, sum(space.size for space in self._spaces.values()))  # a system gives no empty memory
        self._memory = SharedMemory(name, create=self._is_owner, size=size)
        self.name = self._memory.name

    def write(self, obs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Put the images of `obs` here; returns the rest of it."""
        for key, image in self._images():
            assert obs[key].shape == image.shape and obs[key].dtype == image.dtype, (key, obs[key].shape, image.shape)
            image[:] = obs[key]
        return {key: value for key, value in obs.items() if key not in self._spaces}

    def read(self) -> dict[str, np.ndarray]:
        """Copies of the images that were written last."""
        return {key: image.copy() for key, image in self._images()}

    def close(self) -> None:
        """Give the memory back; where this is the owner, for everybody."""
        self._memory.close()
        if self._is_owner:
            self._memory.unlink()

    def _images(self) -> Iterator[tuple[str, np.ndarray]]:
        offset = 0
        for key, space in self._spaces.items():
            yield key, np.ndarray(space.shape, space.dtype, self._memory.buf, offset)
            offset += space.size

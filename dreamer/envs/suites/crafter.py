"""Crafter: survive in a small world of blocks, and unlock 22 achievements."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer.config.schema import EnvConfig
from dreamer.envs.suites.gymnasium import PICTURES, Gymnasium
from dreamer.envs.suites.imports import check_arguments, import_package


def make(config: EnvConfig) -> Gymnasium:
    env = Crafter(config.pixels, **config.kwargs)
    wrapped = Gymnasium(env, "env=crafter", config.obs, config.action_repeat, config.pixels)
    wrapped.action_units = wrapped.action_units._replace(names=env.action_names)
    return wrapped


def check_config(config: EnvConfig) -> None:
    """ValueError where the package is not installed, or does not take what env.kwargs gives it."""
    package = import_package("crafter", "crafter")
    check_arguments("env=crafter", package.Env, config.kwargs, given=("size",))


class Crafter:
    """crafter.Env with the methods of gymnasium.Env; only death is `terminated`, the end of the day is not.

    The package keeps the creatures of a region in a set and draws from it by number. What number each has would depend
    on their addresses in memory, and no episode could be repeated: so here they keep the order in which they came.
    """

    render_mode = PICTURES

    def __init__(self, size: int, **kwargs: Any) -> None:
        import crafter

        self._env: Any = crafter.Env(size=(size, size), **kwargs)
        self.observation_space = spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_names = tuple(self._env.action_names)
        self.action_space = spaces.Discrete(len(self.action_names))

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        self._env._seed, self._env._episode = seed, 0
        image = self._env.reset()
        world = self._env._world
        world._chunks = defaultdict(InOrder)
        for creature in world.objects:
            world._chunks[world.chunk_key(creature.pos)].add(creature)
        return image, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        image, reward, is_over, info = self._env.step(int(action))
        is_dead = info["discount"] == 0
        return image, float(reward), is_dead, is_over and not is_dead, info

    def render(self) -> Any:
        return self._env.render()


class InOrder(dict):
    """As much of a set as the package uses, in the order of arrival."""

    def add(self, item: Any) -> None:
        self[item] = None

    def remove(self, item: Any) -> None:
        del self[item]

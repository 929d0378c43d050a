"""Small environments whose every number is known beforehand: for tests, and for a first look at a learner."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from dreamer.config.bounds import suggestion
from dreamer.config.schema import EnvConfig
from dreamer.envs.spec import Env
from dreamer.envs.suites.imports import check_arguments
from dreamer.types import Space, TimeStep

ACTIONS = {
    "continuous": Space((2,), "float32"),
    "discrete": Space((1,), "int32", classes=(3,)),
    "multi_discrete": Space((2,), "int32", classes=(3, 2)),
}


class Counter:
    """Every row tells its own place, so that one row lost, doubled or shifted shows.

    counter: float32 [2], the index t of the row and `episode`, which is seed % 65536
    action: float32 [n], the action that led to this row; zeros in the first
    image: all pixels (t % 256, t // 256, episode % 256)
    The reward of row t is t. The episode ends with row `length`, at a time limit, or truly if `is_terminal`. One action
    stands for `action_repeat` simulator steps, which matters to whoever counts them.
    """

    def __init__(
        self,
        obs: str = "proprio",
        action_repeat: int = 1,
        size: int = 16,
        length: int = 20,
        is_terminal: bool = False,
        actions: str = "continuous",
    ) -> None:
        self.action_space = ACTIONS[actions]
        vectors = {"counter": Space((2,), "float32"), "action": Space(self.action_space.shape, "float32")}
        self.obs_space = _select(obs, vectors, size)
        self.env_steps_per_action = action_repeat
        self._size = size
        self._length = length
        self._is_terminal = is_terminal
        self._index, self._episode = length, 0  # as after an episode: `reset` comes next

    def reset(self, seed: int) -> TimeStep:
        self._index, self._episode = 0, seed % 65536
        return self._row(np.zeros(self.action_space.shape))

    def step(self, action: np.ndarray) -> TimeStep:
        _check(action, self.action_space)
        assert self._index < self._length, "reset comes first, and again after is_last"
        self._index += 1
        return self._row(action)

    def _row(self, action: np.ndarray) -> TimeStep:
        obs = {
            "counter": np.array([self._index, self._episode], np.float32),
            "action": np.array(action, np.float32),
            "image": self.frame(),
        }
        is_last = self._index == self._length
        return TimeStep(
            obs={key: obs[key] for key in self.obs_space},
            reward=float(self._index),
            is_first=self._index == 0,
            is_last=is_last,
            is_terminal=is_last and self._is_terminal,
        )

    def frame(self) -> np.ndarray:
        colour = np.array([self._index % 256, self._index // 256, self._episode % 256], np.uint8)
        return np.broadcast_to(colour, (self._size, self._size, 3)).copy()

    def close(self) -> None:
        pass


class Recall:
    """Remember a cue. Row 0 shows one of `num_cues`, then come `delay` blank rows; the action after the last of these
    must name the cue, for a reward of 1 with the final row, else 0. Earlier actions do nothing; if `is_asked_always`,
    each of them must name the cue too, for a reward of 1. The final row is a true end. Without memory nothing beats a
    guess: 1 / num_cues of what can be had, on average.

    cue: float32 [num_cues], one-hot or zeros
    image: the cue as one white column out of `num_cues`, or black
    """

    def __init__(
        self,
        obs: str = "proprio",
        action_repeat: int = 1,
        size: int = 16,
        num_cues: int = 2,
        delay: int = 3,
        is_asked_always: bool = False,
    ) -> None:
        if delay < 1 or num_cues < 2:
            raise ValueError(f"env.kwargs: delay={delay} must be at least 1, and num_cues={num_cues} at least 2.")
        self.action_space = Space((1,), "int32", classes=(num_cues,))
        self.obs_space = _select(obs, {"cue": Space((num_cues,), "float32")}, size)
        self.env_steps_per_action = action_repeat
        self._size = size
        self._num_cues = num_cues
        self._delay = delay
        self._first_question = 1 if is_asked_always else delay + 1  # the row whose reward judges the action before it
        self._cue, self._index = 0, delay + 1  # as after an episode: `reset` comes next

    def reset(self, seed: int) -> TimeStep:
        self._cue, self._index = int(np.random.default_rng(seed).integers(self._num_cues)), 0
        return self._row(reward=0.0)

    def step(self, action: np.ndarray) -> TimeStep:
        _check(action, self.action_space)
        assert self._index <= self._delay, "reset comes first, and again after is_last"
        self._index += 1
        is_right = self._index >= self._first_question and int(action[0]) == self._cue
        return self._row(reward=float(is_right))

    def _row(self, reward: float) -> TimeStep:
        shown = np.zeros(self._num_cues, np.float32)
        shown[self._cue] = self._index == 0
        obs = {"cue": shown, "image": self.frame()}
        is_last = self._index > self._delay
        return TimeStep({key: obs[key] for key in self.obs_space}, reward, self._index == 0, is_last, is_last)

    def frame(self) -> np.ndarray:
        image = np.zeros((self._size, self._size, 3), np.uint8)
        if self._index == 0:
            left, right = (self._size * edge // self._num_cues for edge in (self._cue, self._cue + 1))
            image[:, left:right] = 255
        return image

    def close(self) -> None:
        pass


TASKS: dict[str, Callable[..., Env]] = {
    "dummy_counter": Counter,
    "dummy_counter_discrete": partial(Counter, actions="discrete"),
    "dummy_counter_multi_discrete": partial(Counter, actions="multi_discrete"),
    "dummy_recall": Recall,
    "memory": partial(Recall, delay=20, is_asked_always=True),
}
"""Name -> constructor, which takes obs, action_repeat, size, and what env.kwargs adds."""


def make(config: EnvConfig) -> Env:
    settings = {"obs": config.obs, "action_repeat": config.action_repeat, "size": config.pixels}
    return TASKS[config.name](**settings, **config.kwargs)


def check_config(config: EnvConfig) -> None:
    """ValueError where there is no such task, or it does not take what env.kwargs gives it."""
    if config.name not in TASKS:
        raise ValueError(f"env.name={config.name} is not a task of env.suite=dummy; {suggestion(config.name, TASKS)}")
    check_arguments(f"env={config.name}", TASKS[config.name], config.kwargs, given=("obs", "action_repeat", "size"))


def _select(obs: str, vectors: dict[str, Space], size: int) -> dict[str, Space]:
    image = {"image": Space((size, size, 3), "uint8")}
    return {"vision": image, "proprio": vectors, "both": {**vectors, **image}}[obs]


def _check(action: np.ndarray, space: Space) -> None:
    assert action.shape == space.shape and str(action.dtype) == space.dtype, (action, space)
    if space.is_discrete:
        assert (action >= 0).all() and (action < np.array(space.classes)).all(), (action, space)
    else:
        assert np.isfinite(action).all(), action

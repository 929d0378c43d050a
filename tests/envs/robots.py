"""Environments as a user writes them, for tests: one with the methods of gymnasium, one with those of dm_env."""

from __future__ import annotations

from typing import Any

import dm_env
import gymnasium as gym
import numpy as np
from dm_env import specs
from gymnasium import spaces


class Arm(gym.Env):
    """Two cameras, two vectors, three choices. The observation counts and holds the noise that the seed decides."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Dict(
        {
            "cameras": spaces.Dict(
                {
                    "left": spaces.Box(0, 255, (84, 84, 3), np.uint8),
                    "right": spaces.Box(0, 255, (1, 64, 64), np.uint8),
                }
            ),
            "pose": spaces.Box(-np.inf, np.inf, (2, 3), np.float64),
            "time": spaces.Box(0, np.inf, ()),
        }
    )
    action_space = spaces.MultiDiscrete([3, 2, 4])

    def __init__(self, length: int = 15, is_terminal: bool = False, render_mode: str | None = None) -> None:
        self.length, self.is_terminal, self.render_mode = length, is_terminal, render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self.observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.time += 1
        is_over = self.time >= self.length
        return self.observe(), float(self.time), is_over and self.is_terminal, is_over and not self.is_terminal, {}

    def observe(self) -> dict[str, Any]:
        left = np.full((84, 84, 3), self.time, np.uint8)
        right = self.np_random.integers(0, 256, (1, 64, 64)).astype(np.uint8)
        pose = self.np_random.normal(size=(2, 3))
        return {"cameras": {"left": left, "right": right}, "pose": pose, "time": np.float32(self.time)}

    def render(self) -> np.ndarray:
        return np.full((300, 400, 3), 10 * self.time, np.uint8)


class Blind(Arm):
    """Without cameras; it can still draw itself, if it is told to."""

    observation_space = spaces.Dict({key: Arm.observation_space[key] for key in ("pose", "time")})

    def observe(self) -> dict[str, Any]:
        obs = super().observe()
        return {key: obs[key] for key in self.observation_space}


class Pictures(Arm):
    """One camera, and nothing else."""

    observation_space = Arm.observation_space["cameras"]["right"]  # pyright: ignore


class Words(spaces.Space[str]):
    """A space of sentences, of no class that gymnasium knows."""

    def __init__(self) -> None:
        super().__init__(dtype=str)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)


class Board(gym.Env):
    """What lies around the agent, in codes that the space takes for colours, and what it was told to do, in words."""

    metadata = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012
    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (7, 7, 3), np.uint8), "direction": spaces.Discrete(4), "mission": Words()}
    )
    action_space = spaces.Discrete(7)

    def __init__(self, size: int = 5, render_mode: str | None = None) -> None:
        if size < 3:
            raise ValueError(f"no room in {size}\nfor anybody")
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action: int) -> tuple[Any, int, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        return self.observe(), 0, False, False, {}

    def observe(self) -> dict[str, Any]:
        board = self.np_random.integers(0, 11, (7, 7, 3)).astype(np.uint8)
        return {"image": board, "direction": int(board[0, 0, 0]) % 4, "mission": "get to the green square"}

    def render(self) -> np.ndarray:
        return np.full((160, 160, 3), 200, np.uint8)


class Undrawn(Blind):
    """Neither a camera nor a way to draw itself."""

    metadata = {"render_modes": []}  # noqa: RUF012


class Walker(dm_env.Environment):
    """Noise in a picture and a vector. Its episode ends truly if `is_terminal`, else as at a time limit."""

    def __init__(self, length: int = 20, is_terminal: bool = False) -> None:
        self.length, self.is_terminal = length, is_terminal
        self.random = np.random.RandomState(0)

    def seed(self, seed: int) -> None:
        self.random = np.random.RandomState(seed)

    def observation_spec(self) -> dict[str, specs.Array]:
        image = specs.BoundedArray((96, 96, 3), np.uint8, 0, 255)
        return {"image": image, "speed": specs.Array((3,), float), "foot": specs.Array((2,), bool)}

    def action_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((2,), float, [-2, 0], [2, 1])

    def reset(self) -> dm_env.TimeStep:
        self.time = 0
        return dm_env.restart(self.observe())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        self.action_spec().validate(np.asarray(action))
        self.time += 1
        if self.time < self.length:
            return dm_env.transition(float(action[0]), self.observe())
        end = dm_env.termination if self.is_terminal else dm_env.truncation
        return end(float(action[0]), self.observe())

    def observe(self) -> dict[str, np.ndarray]:
        image = self.random.randint(0, 256, (96, 96, 3)).astype(np.uint8)
        return {"image": image, "speed": self.random.rand(3), "foot": self.random.rand(2) < 0.5}


class Unseeded:
    """The fewest members that can do, and no way to give it a seed."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(2)

    def reset(self) -> tuple[int, dict[str, Any]]:
        return 0, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return int(action), 1.0, False, False, {}


class Wired(Arm):
    """It cannot be made without `port`, and takes no render_mode."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port


class Nothing:
    """No environment."""


def make_arm(length: int) -> Arm:
    return Arm(length)


NOT_A_CLASS = Arm()  # an environment already: nothing could make a second one

gym.register("Blind-v0", Blind, max_episode_steps=10)
gym.register("Wired-v0", Wired)
gym.register("Wired-v1", Wired, kwargs={"port": 3})
gym.register("Pictures-v0", Pictures)
gym.register("Undrawn-v0", Undrawn)
gym.register("Board-v0", Board)

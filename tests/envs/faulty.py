"""Environments that break their promises, for tests: each behaves like a counter until the `row` of an `episode`."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FAULTS: dict[str, Any] = {
    "nan_reward": ("reward", float("nan")),
    "inf_reward": ("reward", float("-inf")),
    "huge_reward": ("reward", 1e30),
    "nan_pose": ("pose", [0, np.nan, 0]),
    "short_pose": ("pose", [0.0]),
    "huge_pose": ("pose", [0, 1e300, 0]),
    "wrong_choice": ("choice", 9999),
}


class Faulty(gym.Env):
    """Episodes of 20 rows; in row `row` of episode `episode`, and again every `every` episodes, it does `fault`."""

    observation_space = spaces.Dict({"pose": spaces.Box(-np.inf, np.inf, (3,)), "choice": spaces.Discrete(4)})

    def __init__(
        self, fault: str = "nan_reward", row: int = 7, episode: int = 5, every: int = 10**9, discrete: bool = False
    ) -> None:
        self.action_space = spaces.Discrete(3) if discrete else spaces.Box(-1, 1, (2,))
        self.fault, self.row, self.episode, self.every = fault, row, episode, every
        self.num_episodes = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.random, self.time, self.reward = np.random.default_rng(seed), 0, 0.0
        self.num_episodes += 1
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time, self.reward = self.time + 1, 1.0
        obs = self.observe()
        return obs, self.reward, False, self.time == 20, {}

    def observe(self) -> dict[str, Any]:
        obs = {"pose": self.random.normal(size=3).astype(np.float32), "choice": int(self.random.integers(4))}
        episode = self.num_episodes - 1
        is_due = episode >= self.episode and (episode - self.episode) % self.every == 0
        if not is_due or self.time != self.row:
            return obs
        if self.fault == "raise":
            raise RuntimeError("the gripper is stuck")
        if self.fault == "exit":
            raise SystemExit(0)
        if self.fault == "hang":
            while True:
                time.sleep(0.1)
        if self.fault == "hang_in_c":
            time.sleep(1e6)
        key, value = FAULTS[self.fault]
        if key == "reward":
            self.reward = value
            return obs
        return {**obs, key: value}

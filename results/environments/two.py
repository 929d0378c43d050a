"""An environment with two pictures, two vectors and two choices: name the colour of the left picture with the first."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Two(gym.Env):
    observation_space = spaces.Dict(
        {
            "left": spaces.Box(0, 255, (48, 64, 3), np.uint8),
            "right": spaces.Box(0, 255, (64, 64, 1), np.uint8),
            "pos": spaces.Box(-1, 1, (3,)),
            "vel": spaces.Box(-1, 1, (2,)),
        }
    )
    action_space = spaces.MultiDiscrete([3, 4])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.goal = 0, self.np_random.integers(3)
        return self.obs(), {}

    def obs(self):
        return {
            "left": np.full((48, 64, 3), 60 * self.goal, np.uint8),
            "right": np.full((64, 64, 1), self.t, np.uint8),
            "pos": np.full(3, self.t / 100, np.float32),
            "vel": self.np_random.uniform(-1, 1, 2).astype(np.float32),
        }

    def step(self, action):
        self.t += 1
        return self.obs(), float(action[0] == self.goal), False, self.t >= 60, {}

"""Policy steps a second of env.num_envs environments with env.workers, alone and with the policy that acts in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from dreamer.benchmark.timing import Budget, interleaved
from dreamer.config.schema import Config
from dreamer.data.stepper import Stepper
from dreamer.envs.make import make_envs
from dreamer.envs.vector import Move, Vector
from dreamer.training.player import Player
from dreamer.training.run import build_agent
from dreamer.types import Space, TimeStep


def measure_collect(config: Config, threads: int, budget: Budget) -> dict[str, dict[str, Any]]:
    """One step of all environments: `envs`, with random actions; `envs_policy`, with those of an agent, which answers
    to all of them as one batch. CPU seconds are those of this process, without the environments' own.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(config.seed)
    envs = make_envs(config.env)
    try:
        random = RandomMoves(envs, config.seed)
        agent = build_agent(config, envs.obs_space, envs.action_space)
        stepper = Stepper(envs, Player(agent, config.seed, own_weights=False), collect_steps=0, seed=config.seed)
        alone = interleaved({"envs": random.step}, budget)
        timings = {**alone, **interleaved({"envs_policy": stepper.step}, budget)}
    finally:
        envs.close()
    shape = {"threads": threads, "num_envs": envs.num_envs, "workers": config.env.workers, "env": config.env.name}
    return {
        name: {**timing._asdict(), "policy_steps_per_second": envs.num_envs / timing.seconds, **shape}
        for name, timing in timings.items()
    }


class RandomMoves:
    """Uniform actions for every environment; where an episode has ended, the beginning of another."""

    def __init__(self, envs: Vector, seed: int) -> None:
        self.envs, self.random = envs, np.random.default_rng(seed)
        self.moves: dict[int, Move] = {index: index for index in range(envs.num_envs)}

    def step(self) -> None:
        for index, answer in self.envs.step(self.moves).items():
            is_over = not isinstance(answer, TimeStep) or answer.is_last
            self.moves[index] = int(self.random.integers(2**31)) if is_over else self.action(self.envs.action_space)

    def action(self, space: Space) -> np.ndarray:
        if space.is_discrete:
            return np.asarray(self.random.integers(space.classes, size=space.shape), np.int32)
        return self.random.uniform(-1, 1, size=space.shape).astype(np.float32)

"""Seconds of one policy step: what an agent takes to answer one observation of one environment."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from dreamer.benchmark.timing import Budget, best, interleaved
from dreamer.benchmark.update import random_values, spaces
from dreamer.config.schema import Config
from dreamer.training.run import build_agent
from dreamer.training.speed.compiling import choose_compile, compile_acting, record_acting, uses_graphs
from dreamer.training.speed.cuda_graph import WARM_UP


def measure_policy(config: Config, threads: list[int], budget: Budget) -> dict[str, Any]:
    """Median of the fastest of `threads`; the observation is noise, so nothing is simulated or drawn. Compiled where a
    run of this config would be, and recorded where one without trainer.overlap would be.
    """
    torch.manual_seed(config.seed)
    obs_space, action_space = spaces(config.env)
    agent = build_agent(config, obs_space, action_space)
    is_compiled = choose_compile(config.trainer.compile, config.num_updates)
    if is_compiled:
        compile_acting(agent)
    is_recorded = uses_graphs(config.trainer.cuda_graphs, agent.device)
    if is_recorded:
        record_acting(agent)
    obs = {key: random_values(space, (1,)).numpy() for key, space in obs_space.items()}
    action, latent = np.zeros((1, *action_space.shape), action_space.dtype), agent.initial(1)
    is_first = np.zeros(1, bool)

    def step(number: int) -> None:
        nonlocal action, latent
        torch.set_num_threads(number)
        action, latent = agent.act(obs, latent, action, is_first)

    for _ in range(WARM_UP + 1 if is_recorded else 0):
        step(threads[0])
    timings = interleaved({number: partial(step, number) for number in threads}, budget)
    chosen = best(timings)
    return {
        **timings[chosen]._asdict(),
        "threads": chosen,
        "precision": agent.precision,
        "is_compiled": is_compiled,
        "is_recorded": is_recorded,
        "by_threads": {str(number): timing._asdict() for number, timing in timings.items()},
    }

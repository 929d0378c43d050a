"""Seeds of episodes: every episode of a run has its own, and a resumed run goes on with the next one."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

EVALUATION_STREAM = 2**20
"""Streams from here on are for evaluation; training counts its environments from 0."""
ACTING_STREAM = 2**21
"""Of the random numbers with which the policy samples."""


def episode_seed(seed: int, stream: int, episode: int) -> int:
    """The seed of the given episode of the given stream: 63 bits hashed from all three, so that no two meet.

    Two runs with neighbouring seeds share no episodes either, as they would with seed + stream.
    """
    words = np.random.SeedSequence(entropy=seed, spawn_key=(stream, episode)).generate_state(1, np.uint64)
    return int(words[0] >> np.uint64(1))  # fits the signed 64 bits that checkpoints and arrays use


def reset_seeded(env: Any, seed: int) -> Any:
    """What env.reset returns, for an environment of others: reset(seed=...), or seed(...) before reset().

    They get 31 bits of `seed`: the generators of NumPy and Python that many use take no more than 32.
    """
    short = int(np.random.SeedSequence(seed).generate_state(1)[0] >> 1)
    if takes_keyword(env.reset, "seed"):
        for name in ("action_space", "observation_space"):
            if hasattr(env, name):
                getattr(env, name).seed(short)  # some environments draw from these
        return env.reset(seed=short)
    if hasattr(env, "seed"):
        env.seed(short)
    return env.reset()


def is_seeded(env: Any) -> bool:
    """Whether `reset_seeded` has a way to hand over the seed."""
    return takes_keyword(env.reset, "seed") or hasattr(env, "seed")


def takes_keyword(function: Any, name: str) -> bool:
    parameters = inspect.signature(function).parameters.values()
    return any(item.name == name or item.kind is item.VAR_KEYWORD for item in parameters)

"""Seeds of episodes: every episode of a run has its own, and a resumed run goes on with the next one."""

from __future__ import annotations

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

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.types import Space

pytest.importorskip("crafter")


def config(**changes: Any) -> EnvConfig:
    return EnvConfig(**{"suite": "crafter", "name": "crafter", "obs": "vision", "action_repeat": 1, **changes})


def test_the_size_of_pictures_has_a_key_of_its_own() -> None:
    with pytest.raises(ValueError, match=r"^env.kwargs.size is set by env.size; give env.size=... instead.$"):
        make_env(config(kwargs={"size": 5}))


def look(seed: int, num: int) -> str:
    """A digest of all pictures and rewards of an episode."""
    env, digest = make_env(config(size=32)), hashlib.sha256()
    row = env.reset(seed)
    for action in np.random.default_rng(seed).integers(0, 17, (num, 1)).astype(np.int32):
        digest.update(row.obs["image"].tobytes() + np.float64(row.reward).tobytes())
        row = env.reset(seed + 1) if row.is_last else env.step(action)
    return digest.hexdigest()


@pytest.mark.slow
def test_pictures_and_actions() -> None:
    env = make_env(config())
    assert env.obs_space == {"image": Space((64, 64, 3), "uint8")} and env.action_space == Space((1,), "int32", (17,))
    row = env.reset(0)
    assert row.obs["image"].std() > 10 and not np.array_equal(row.obs["image"], env.reset(1).obs["image"])
    frame = env.frame()
    assert frame is not None and frame.shape == (64, 64, 3)


@pytest.mark.slow
def test_the_seed_alone_determines_an_episode_in_another_process_too() -> None:
    """By itself the package draws creatures from a set, in the order of their addresses."""
    code = "junk = [object() for _ in range(54321)]\nfrom test_crafter import look\nprint(look(3, 600))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert other.stdout.split()[-1] == look(3, 600) != look(8, 600)


@pytest.mark.slow
def test_death_is_terminal_and_the_end_of_the_day_is_not() -> None:
    env = make_env(config(kwargs={"length": 3}))
    env.reset(0)
    rows = [env.step(np.zeros(1, np.int32)) for _ in range(3)]
    assert [row.is_last for row in rows] == [False, False, True] and not rows[-1].is_terminal
    env = make_env(config())
    env.reset(0)
    env.env._env._env._player.health = 0  # pyright: ignore
    row = env.step(np.zeros(1, np.int32))
    assert row.is_last and row.is_terminal and row.reward < 0

"""explore=noise: how far actions are moved, and which."""

import numpy as np
import pytest
import torch

from dreamer.behavior.explore.noise import Noise
from dreamer.config.schema import ExploreConfig
from dreamer.types import Space


def noise(space: Space, share: float = 0.4, steps: int = 100) -> Noise:
    return Noise(ExploreConfig(name="noise", noise=share, steps=steps), space)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("policy_steps, spread", [(0, 0.4), (50, 0.2), (75, 0.1)])
def test_the_spread_of_continuous_actions_falls_in_proportion_to_the_steps(policy_steps: int, spread: float) -> None:
    action = np.full((4000, 2), 0.3, np.float32)
    moved = noise(Space((2,), "float32")).perturb(action, policy_steps, generator())
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved.mean(0), 0.3, atol=0.02)
    np.testing.assert_allclose(moved.std(0), spread, rtol=0.05)
    assert (action == np.float32(0.3)).all()


@pytest.mark.parametrize("space", [Space((2,), "float32"), Space((2,), "int32", (4, 3))])
def test_nothing_is_moved_after_the_last_step(space: Space) -> None:
    action = np.ones((500, 2), space.dtype)
    for policy_steps in (100, 101, 10**9):
        np.testing.assert_array_equal(noise(space).perturb(action, policy_steps, generator()), action)


def test_a_share_of_discrete_choices_is_replaced_by_uniform_ones() -> None:
    space = Space((2,), "int32", (4, 3))
    moved = noise(space).perturb(np.zeros((6000, 2), np.int32), 50, generator())
    assert moved.dtype == np.int32
    # A fifth is drawn anew, and a quarter or a third of that is 0 again: 1 - 0.2 * 3/4 = 0.85, 1 - 0.2 * 2/3 = 0.867.
    np.testing.assert_allclose((moved == 0).mean(0), [0.85, 0.867], atol=0.015)
    assert set(moved[:, 0]) == {0, 1, 2, 3} and set(moved[:, 1]) == {0, 1, 2}

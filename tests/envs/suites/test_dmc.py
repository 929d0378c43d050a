import re

import numpy as np
import pytest

from dreamer.envs.suites.dmc import DMC, task_names
from dreamer.types import TimeStep

VISION_TASKS = [
    "acrobot_swingup",
    "ball_in_cup_catch",
    "cartpole_balance",
    "cartpole_balance_sparse",
    "cartpole_swingup",
    "cartpole_swingup_sparse",
    "cheetah_run",
    "finger_spin",
    "finger_turn_easy",
    "finger_turn_hard",
    "hopper_hop",
    "hopper_stand",
    "pendulum_swingup",
    "quadruped_run",
    "quadruped_walk",
    "reacher_easy",
    "reacher_hard",
    "walker_run",
    "walker_stand",
    "walker_walk",
]


def proprio(name: str, action_repeat: int = 1) -> DMC:
    return DMC(name, "proprio", action_repeat, size=64, camera=0)


def episode(env: DMC, seed: int, num_actions: int) -> list[TimeStep]:
    """Rows of an episode whose seed decides the actions too."""
    actions = random_actions(seed, num_actions, env.action_space.size)
    return [env.reset(seed), *(env.step(action) for action in actions)]


def random_actions(seed: int, num_actions: int, size: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (num_actions, size)).astype(np.float32)


def assert_same_rows(left: list[TimeStep], right: list[TimeStep]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a[1:] == b[1:]
        assert a.obs.keys() == b.obs.keys()
        for key in a.obs:
            np.testing.assert_array_equal(a.obs[key], b.obs[key])


@pytest.mark.parametrize("name", VISION_TASKS)
def test_every_task_keeps_its_spaces(name: str) -> None:
    env = proprio(name, action_repeat=2)
    assert env.env_steps_per_action == 2
    assert env.action_space.dtype == "float32" and not env.action_space.is_discrete
    assert list(env.obs_space) == sorted(env.obs_space)
    rows = episode(env, seed=1, num_actions=3)
    for t, row in enumerate(rows):
        assert row.is_first == (t == 0) and not row.is_last and not row.is_terminal
        assert list(row.obs) == list(env.obs_space)
        for key, space in env.obs_space.items():
            assert row.obs[key].shape == space.shape and row.obs[key].dtype == np.float32
            assert np.isfinite(row.obs[key]).all()
    assert rows[0].reward == 0.0
    env.close()


def test_scalar_observations_keep_their_empty_shape() -> None:
    assert proprio("walker_walk").obs_space["height"].shape == ()


def test_cup_is_ball_in_cup() -> None:
    assert task_names()["cup_catch"] == ("ball_in_cup", "catch")


@pytest.mark.parametrize(
    "name",
    [
        "walker_walk",
        "cartpole_swingup",
        "reacher_easy",
        "finger_turn_hard",
        "quadruped_run",
        "ball_in_cup_catch",
        "hopper_hop",
        "point_mass_hard",
        "lqr_lqr_2_1",
    ],
)
def test_the_seed_alone_determines_an_episode(name: str) -> None:
    env = proprio(name, action_repeat=2)
    first = episode(env, seed=2**62 + 5, num_actions=20)
    state = env.simulator_state()
    other = episode(env, seed=6, num_actions=13)
    assert any(not np.array_equal(first[0].obs[key], other[0].obs[key]) for key in env.obs_space)
    assert_same_rows(first, episode(env, seed=2**62 + 5, num_actions=20))
    np.testing.assert_array_equal(state, env.simulator_state())
    assert_same_rows(first, episode(proprio(name, action_repeat=2), seed=2**62 + 5, num_actions=20))


def test_rows_hold_what_the_simulator_returned_with_them() -> None:
    env = proprio("walker_walk")  # chooses how to draw, before the import
    from dm_control import suite

    generator = np.random.MT19937(np.random.SeedSequence(3))
    raw = suite.load("walker", "walk", task_kwargs={"random": np.random.RandomState(generator)})
    row, expected = env.reset(3), raw.reset()
    for action in random_actions(3, 10, 6):
        for key, value in row.obs.items():
            np.testing.assert_array_equal(value, np.float32(expected.observation[key]))
        row, expected = env.step(action), raw.step(action)
        assert row.reward == expected.reward > 0


def test_action_repeat_sums_rewards_and_shows_the_last_observation() -> None:
    single, double = proprio("walker_walk", 1), proprio("walker_walk", 2)
    single.reset(0)
    double.reset(0)
    for action in random_actions(0, 20, 6):
        halves = [single.step(action), single.step(action)]
        row = double.step(action)
        assert row.reward == halves[0].reward + halves[1].reward
        for key in row.obs:
            np.testing.assert_array_equal(row.obs[key], halves[1].obs[key])


@pytest.mark.parametrize(("action_repeat", "num_actions"), [(1, 1000), (2, 500), (3, 334)])
def test_the_time_limit_is_last_but_not_terminal(action_repeat: int, num_actions: int) -> None:
    env = proprio("cartpole_balance", action_repeat)
    rows = episode(env, seed=0, num_actions=num_actions)
    assert [row.is_last for row in rows] == [False] * num_actions + [True]
    assert not any(row.is_terminal for row in rows)
    with pytest.raises(AssertionError, match="reset"):
        env.step(np.zeros(1, np.float32))
    assert env.reset(1).is_first


def test_repeats_stop_with_the_episode() -> None:
    full, cut = episode(proprio("cartpole_balance", 2), 0, 500), proprio("cartpole_balance", 999)
    cut.reset(0)
    assert not cut.step(np.zeros(1, np.float32)).is_last
    row = cut.step(np.zeros(1, np.float32))
    assert row.is_last and 0 < row.reward <= 1.0  # one control step was left, and a step pays at most 1
    assert full[-1].reward <= 2.0


def test_a_true_end_is_terminal() -> None:
    env = proprio("lqr_lqr_2_1", action_repeat=2)  # ends with discount 0 once its masses rest
    env.reset(0)
    assert not env.step(np.zeros(1, np.float32)).is_last
    physics = env._env.physics
    physics.data.qpos[:] = physics.data.qvel[:] = 0
    physics.forward()
    row = env.step(np.zeros(1, np.float32))
    assert row.is_last
    assert row.is_terminal


def test_actions_are_clipped_and_reach_the_bounds_of_the_task() -> None:
    env = proprio("quadruped_walk")  # its knees and hips have bounds other than 1
    spec = env._env.action_spec()
    for action, bound in ((5.0, spec.maximum), (-5.0, spec.minimum)):
        env.reset(0)
        env.step(np.full(env.action_space.shape, action, np.float32))
        np.testing.assert_allclose(env._env.physics.control(), bound)
    env.step(np.zeros(env.action_space.shape, np.float32))
    np.testing.assert_allclose(env._env.physics.control(), (spec.minimum + spec.maximum) / 2)


def test_an_action_that_is_not_finite_is_refused() -> None:
    env = proprio("cartpole_balance")
    env.reset(0)
    with pytest.raises(ValueError, match=r"cartpole_balance.*not finite"):
        env.step(np.array([np.nan], np.float32))


def test_a_diverged_simulation_says_where() -> None:
    env = proprio("cartpole_balance")
    episode(env, 0, 7)
    env._env.physics.data.qvel[:] = np.nan
    with pytest.raises(RuntimeError, match=r"cartpole_balance after 7 control steps.*BADQ"):
        env.step(np.zeros(1, np.float32))


@pytest.mark.usefixtures("renderer")
@pytest.mark.parametrize(("name", "camera"), [("walker_walk", 0), ("reacher_easy", 0), ("quadruped_run", 2)])
def test_pictures_show_the_simulation_now(name: str, camera: int) -> None:
    env = DMC(name, "vision", 2, 64, camera)
    assert list(env.obs_space) == ["image"] and env.obs_space["image"].is_image
    rows = episode(env, seed=0, num_actions=2)
    for row in rows:
        image = row.obs["image"]
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8 and image.flags.c_contiguous
        assert image.std() > 10
    assert not np.array_equal(rows[0].obs["image"], rows[1].obs["image"])
    np.testing.assert_array_equal(rows[2].obs["image"], env.image())
    now = env._env.physics.render(64, 64, camera_id=camera).astype(int)
    assert np.abs(now - rows[2].obs["image"]).mean() < 0.5  # a software renderer may differ in single pixels
    env.close()


@pytest.mark.usefixtures("renderer")
def test_both_kinds_of_observation_come_together() -> None:
    env = DMC("cartpole_balance", "both", 1, 32, 0)
    row = env.reset(0)
    assert set(row.obs) == set(env.obs_space) == {"image", "position", "velocity"}
    np.testing.assert_array_equal(row.obs["position"], proprio("cartpole_balance").reset(0).obs["position"])


@pytest.mark.usefixtures("renderer")
def test_two_environments_draw_their_own_pictures() -> None:
    left, right = DMC("walker_walk", "vision", 1, 32, 0), DMC("cartpole_balance", "vision", 1, 32, 0)
    before = left.reset(0).obs["image"]
    assert np.abs(right.reset(0).obs["image"].astype(int) - before).mean() > 5
    right.close()
    assert np.abs(left.reset(0).obs["image"].astype(int) - before).mean() < 0.5


@pytest.mark.usefixtures("renderer")
def test_pictures_may_be_larger_than_the_model_provides_for() -> None:
    env = DMC("pendulum_swingup", "vision", 1, 496, 0)
    assert env.reset(0).obs["image"].shape == (496, 496, 3)


@pytest.mark.usefixtures("renderer")
def test_proprio_has_frames_for_people() -> None:
    env = proprio("walker_walk")
    env.reset(0)
    frame = env.frame()
    assert frame is not None and frame.std() > 10 and frame.shape == (240, 240, 3)
    env.step(np.ones(6, np.float32))
    later = env.frame()
    assert later is not None and not np.array_equal(frame, later)


def test_advance_is_step_without_the_observation() -> None:
    stepped, advanced = proprio("walker_walk", 2), proprio("walker_walk", 2)
    stepped.reset(0)
    advanced.reset(0)
    for action in random_actions(0, 5, 6):
        row = advanced.advance(action)
        assert row.obs == {} and row[1:] == stepped.step(action)[1:]
    np.testing.assert_array_equal(stepped.simulator_state(), advanced.simulator_state())


def test_task_names_cover_the_suite() -> None:
    assert set(VISION_TASKS) < set(task_names())
    assert all(re.fullmatch(r"\w+", name) for name in task_names())

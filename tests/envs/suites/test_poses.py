"""dreamer/envs/suites/poses.py: the pose that is read from an observation is the simulator's own."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.envs.suites.dmc import DMC, task_names
from dreamer.envs.suites.poses import READERS, pose_reader

FIRST = {domain: name for name, (domain, _) in reversed(task_names().items()) if domain in READERS}
TASKS = [*FIRST.values(), "cartpole_three_poles"]


@pytest.mark.parametrize("name", TASKS)
def test_the_pose_read_from_an_observation_has_the_same_joints_up_to_whole_turns(name):
    env, random = DMC(name, "proprio", 2, 64, 0), np.random.default_rng(0)
    read = pose_reader(name)
    assert read is not None
    row = env.reset(3)
    for _ in range(25):
        pose, truth = read(row.obs), env._env.physics.data.qpos.copy()
        if pose.forward is not None:
            index, speed = pose.forward
            assert speed == pytest.approx(env._env.physics.data.qvel[index], abs=1e-5)
            truth[index] = 0
        difference = pose.qpos - truth
        model = env._env.physics.model
        is_hinge = model.jnt_type[: len(truth)] == 3  # mjJNT_HINGE
        difference[is_hinge] = np.sin(difference[is_hinge] / 2)  # a whole turn looks the same
        assert np.abs(difference).max() < 1e-5, (name, difference)
        row = env.step(random.uniform(-1, 1, env.action_space.shape).astype(np.float32))
    env.close()


def test_no_pose_is_promised_where_joints_stay_hidden():
    assert pose_reader("quadruped_run") is None and pose_reader("reacher_easy") is None


def test_a_pose_is_drawn_like_the_simulation_that_it_was_read_from():
    env, other = DMC("walker_walk", "proprio", 2, 64, 0), DMC("walker_walk", "proprio", 2, 64, 0)
    env.reset(1)
    for _ in range(5):
        row = env.step(np.ones(6, np.float32))
    read = pose_reader("walker_walk")
    assert read is not None
    qpos = read(row.obs).qpos
    qpos[1] = env._env.physics.data.qpos[1]
    picture, drawn = env.frame(), other.draw_pose(qpos, 240)
    if picture is None or drawn is None:
        pytest.skip("no OpenGL here")
    assert np.abs(picture.astype(int) - drawn).mean() < 0.5
    env.close(), other.close()


def test_actions_have_the_names_of_the_model():
    env = DMC("walker_walk", "proprio", 2, 64, 0)
    assert env.action_units.names[:2] == ("right_hip", "right_knee") and env.seconds_per_action == pytest.approx(0.05)

"""Positions of all joints from what an agent sees of a task of the Control Suite, where that is enough to know them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from dreamer.envs.suites.dmc import task_names

Vectors = Mapping[str, np.ndarray]


class Pose(NamedTuple):
    """How a robot stands. qpos: positions of its joints as MuJoCo orders them.

    forward: the joint along which it travels, of which the observation tells the speed alone, and that speed in m/s;
    None where every position is known. The camera follows, so only the floor shows where the robot is along it.
    """

    qpos: np.ndarray
    forward: tuple[int, float] | None = None


def pose_reader(name: str) -> Callable[[Vectors], Pose] | None:
    """What makes a pose of the state that <domain>_<task> shows; None where the state does not tell all joints.

    Left out besides: tasks that place a target anew in each episode, which is no joint (reacher, finger, swimmer, fish,
    manipulator, stacker), those that do not show how the whole body is turned (quadruped, humanoid, dog), and lqr.
    """
    return READERS.get(task_names()[name][0])


def walker(obs: Vectors) -> Pose:
    """From cosine and sine of each body's angle in space; joints turn against the torso's own axis."""
    cos, sin = np.asarray(obs["orientations"], float).reshape(7, 2).T
    torso, *limbs = np.arctan2(sin, cos)
    hips, knees, ankles = (np.array([limbs[i], limbs[i + 3]]) for i in range(3))
    legs = np.stack([torso - hips, hips - knees, knees - ankles], axis=1)  # right, then left
    return Pose(np.array([float(obs["height"]) - 1.3, 0.0, torso, *_wrapped(legs).ravel()]), (1, obs["velocity"][1]))


def runner(obs: Vectors) -> Pose:
    """cheetah and hopper: all positions but the first."""
    return Pose(np.array([0.0, *obs["position"]]), (0, obs["velocity"][0]))


def cartpole(obs: Vectors) -> Pose:
    """Cosine and sine of each pole's angle in space; the joints count from the pole below."""
    cart, *turns = np.asarray(obs["position"], float)
    cos, sin = np.reshape(turns, (-1, 2)).T
    angles = np.arctan2(sin, cos)
    return Pose(np.array([cart, *_wrapped(np.diff(angles, prepend=0.0))]))


def pendulum(obs: Vectors) -> Pose:
    cos, sin = np.asarray(obs["orientation"], float)
    return Pose(np.array([np.arctan2(sin, cos)]))


def acrobot(obs: Vectors) -> Pose:
    """Sines of both arms' angles in space, then cosines."""
    sin, cos = np.asarray(obs["orientations"], float).reshape(2, 2)
    return Pose(_wrapped(np.diff(np.arctan2(sin, cos), prepend=0.0)))


def plain(obs: Vectors) -> Pose:
    """ball_in_cup and point_mass: the positions themselves."""
    return Pose(np.asarray(obs["position"], float))


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angles in [-pi, pi]."""
    return np.arctan2(np.sin(angle), np.cos(angle))


READERS: dict[str, Callable[[Vectors], Pose]] = {
    "walker": walker,
    "cheetah": runner,
    "hopper": runner,
    "cartpole": cartpole,
    "pendulum": pendulum,
    "acrobot": acrobot,
    "ball_in_cup": plain,
    "point_mass": plain,
}

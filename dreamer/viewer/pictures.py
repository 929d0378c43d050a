"""Pictures as they are kept and sent, and poses of a robot drawn through its simulator."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing.backend import why_nothing_draws
from dreamer.envs.suites.dmc import DMC
from dreamer.envs.suites.poses import Vectors, pose_reader


class Picture(NamedTuple):
    """A picture, uint8 [h w 3], compressed without loss: a thousand of them are kept."""

    height: int
    width: int
    data: bytes

    @staticmethod
    def of(pixels: np.ndarray) -> Picture:
        """uint8 [h w c]; of more than three channels the first three, of one or two the first, as grey."""
        pixels = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
        height, width = pixels.shape[:2]
        return Picture(height, width, zlib.compress(pixels.tobytes(), level=1))

    def pixels(self) -> np.ndarray:
        flat = np.frombuffer(zlib.decompress(self.data), np.uint8)
        return flat.reshape(self.height, self.width, 3)


class Stage:
    """A robot of the Control Suite, to draw poses that were read from observations, real or dreamed.

    It has a simulation of its own, so nothing happens to the episode. Where a robot travels is the sum of its speeds:
    `moved` adds a step to it.
    """

    def __init__(self, config: EnvConfig) -> None:
        read = pose_reader(config.name)
        assert read is not None, config.name
        self._read = read
        self._dmc = DMC(config.name, "proprio", config.action_repeat, config.size or 64, config.camera, "near2")

    def draw(self, obs: Vectors, place: float, size: int) -> np.ndarray | None:
        """The robot as an observation shows it, `place` metres along its way: uint8 [size size 3]."""
        pose = self._read(obs)
        if pose.forward is not None:
            pose.qpos[pose.forward[0]] = place
        if not np.isfinite(pose.qpos).all():
            return None
        return self._dmc.draw_pose(pose.qpos, size)

    def moved(self, obs: Vectors, place: float) -> float:
        """Where the robot is after a step that ends in this observation, in metres."""
        forward = self._read(obs).forward
        return place if forward is None else place + float(forward[1]) * self._dmc.seconds_per_action

    def close(self) -> None:
        self._dmc.close()


def open_stage(config: EnvConfig, sees_pictures: bool) -> tuple[Stage | None, str]:
    """A stage where one is of use, else None and why poses are not drawn, for the viewer to read (may be empty)."""
    if sees_pictures:
        return None, ""
    if config.suite != "dmc":
        return None, "This agent sees numbers, so it dreams numbers: they are drawn as lines."
    if (why := why_nothing_draws()) is not None:
        return None, f"Lines alone: {why}."
    if pose_reader(config.name) is None:
        return None, f"The state of {config.name} does not tell where all joints are, so the dream is drawn as lines."
    return Stage(config), ""

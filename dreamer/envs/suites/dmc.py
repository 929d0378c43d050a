"""Tasks of the DeepMind Control Suite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dm_env
import numpy as np

from dreamer.config.bounds import suggestion
from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing import backend
from dreamer.envs.spec import ActionRange
from dreamer.envs.suites.spaces import finite_bounds, rescale
from dreamer.types import Space, TimeStep

if TYPE_CHECKING:
    from dreamer.envs.drawing.renderer import Renderer


def make(config: EnvConfig) -> DMC:
    return DMC(config.name, config.obs, config.action_repeat, config.pixels, config.camera, config.render)


def check_config(config: EnvConfig) -> None:
    """ValueError where the suite has no such task or camera, or this machine cannot draw it."""
    if config.name not in (names := task_names()):
        raise ValueError(f"env.name={config.name} is not a task of env.suite=dmc; {suggestion(config.name, names)}")
    if config.camera != 0:  # every task has that one, so most runs need not load a model to know
        _check_camera(config)
    if config.uses_pixels:
        backend.find_renderer()


def _check_camera(config: EnvConfig) -> None:
    num_cameras = int(_load(config.name).physics.model.ncam)
    if not -1 <= config.camera < num_cameras:
        raise ValueError(
            f"env.camera={config.camera} must be from 0 to {num_cameras - 1} for {config.name}, or -1, the free camera."
        )


def task_names() -> dict[str, tuple[str, str]]:
    """<domain>_<task> -> (domain, task) of the whole suite, with `cup` as another word for `ball_in_cup`."""
    backend.choose_backend()
    from dm_control import suite

    names = {f"{domain}_{task}": (domain, task) for domain, task in suite.ALL_TASKS}
    names["cup_catch"] = names["ball_in_cup_catch"]
    return names


def _load(name: str) -> Any:
    domain, task = task_names()[name]
    from dm_control import suite

    # The seed here matters to lqr alone, which draws its model once; `reset` seeds everything else.
    return suite.load(domain, task, task_kwargs={"random": 0})


FILM_SIZE = 240


class DMC:
    """One task of the suite, named <domain>_<task>, seen as pixels, as state, or both.

    obs "vision" gives `image` uint8 [size size 3]; "proprio" every observation of the task as float32, in its own
    shape; "both" gives both. Rewards are summed over the action repeat, which ends early with the episode. The time
    limit is the suite's own: it sets is_last but not is_terminal, which takes a discount of 0. Pictures of the given
    `camera` are drawn in the mode `render`, one of `EnvConfig.render`.
    """

    def __init__(
        self, name: str, obs: str, action_repeat: int, size: int, camera: int, render: str = "reference"
    ) -> None:
        assert obs in ("vision", "proprio", "both") and action_repeat >= 1, (obs, action_repeat)
        if obs != "proprio":
            backend.find_renderer()
        self._env = _load(name)
        self._name = name
        self._has_image = obs != "proprio"
        self._size, self._camera, self._render = size, camera, render
        self._renderers: dict[int, Renderer] = {}  # by size, each made with its first picture
        self._image: np.ndarray | None = None  # of the current row, once somebody asked for it
        self._vectors: Mapping[str, Any] = {}  # the simulator's observation of the current row
        self._num_steps: int | None = None  # control steps of the running episode; None where `reset` must come next
        spec = self._env.action_spec()
        low, high = finite_bounds(spec.minimum, spec.maximum)
        model = self._env.physics.model
        names = tuple(model.id2name(index, "actuator") for index in range(model.nu))
        is_named = len(names) == low.size and all(names)
        self.action_units = ActionRange(low, high, low, high, np.zeros(low.size, bool), names if is_named else ())
        self._keys = [] if obs == "vision" else sorted(self._env.observation_spec())
        self.obs_space = {key: Space(self._env.observation_spec()[key].shape, "float32") for key in self._keys}
        if self._has_image:
            self.obs_space["image"] = Space((size, size, 3), "uint8")
        self.action_space = Space(spec.shape, "float32")
        self.env_steps_per_action = action_repeat

    def reset(self, seed: int) -> TimeStep:
        # All that an episode draws, the suite's tasks draw from this generator, and at their reset.
        self._env.task._random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence(seed)))
        self._image, self._num_steps = None, 0
        self._vectors = self._env.reset().observation
        return TimeStep(self._observation(), 0.0, is_first=True, is_last=False, is_terminal=False)

    def step(self, action: np.ndarray) -> TimeStep:
        row = self.advance(action)
        return row._replace(obs=self._observation())

    def advance(self, action: np.ndarray) -> TimeStep:
        """Like `step`, but the observation is left empty: no picture is drawn."""
        control = self.translate(action)
        row = self._simulate(control)
        reward = float(row.reward)
        for _ in range(self.env_steps_per_action - 1):
            if row.last():
                break
            row = self._simulate(control)
            reward += float(row.reward)
        self._image, self._vectors = None, row.observation
        if row.last():
            self._num_steps = None
        is_terminal = bool(row.last() and row.discount == 0)
        return TimeStep({}, reward, is_first=False, is_last=row.last(), is_terminal=is_terminal)

    def simulator_state(self) -> np.ndarray:
        """Positions, velocities and activations, float64."""
        return self._env.physics.get_state()

    def frame(self) -> np.ndarray | None:
        """What the camera shows now, as large as people look at, uint8 [FILM_SIZE FILM_SIZE 3]; None without OpenGL."""
        return self._draw(max(FILM_SIZE, self._size))

    def image(self) -> np.ndarray | None:
        """The picture that the agent sees now, uint8 [size size 3]; None where this machine cannot render."""
        if self._image is None:
            self._image = self._draw(self._size)
        return self._image

    def draw_pose(self, qpos: np.ndarray, size: int) -> np.ndarray | None:
        """Another pose, uint8 [size size 3], None without OpenGL. It takes the place of the running episode's."""
        physics = self._env.physics
        physics.data.qpos[:] = qpos
        physics.forward()
        return self._draw(size)

    @property
    def seconds_per_action(self) -> float:
        """Simulated time that passes with an action."""
        return self.env_steps_per_action * self._env.control_timestep()

    def close(self) -> None:
        """Frees the simulation and its OpenGL contexts; nothing else may be called afterwards."""
        for renderer in self._renderers.values():
            renderer.close()
        self._env.physics.free()

    def _draw(self, size: int) -> np.ndarray | None:
        if backend.probe_renderers().backend is None:
            return None
        if size not in self._renderers:
            from dreamer.envs.drawing.renderer import make_renderer  # after MUJOCO_GL is chosen

            self._renderers[size] = make_renderer(self._env.physics, size, self._camera, self._render)
        return self._renderers[size].render()

    def _observation(self) -> dict[str, np.ndarray]:
        obs = {key: np.asarray(self._vectors[key], np.float32) for key in self._keys}
        if self._has_image and (image := self.image()) is not None:
            obs["image"] = image
        return obs

    def translate(self, action: np.ndarray) -> np.ndarray:
        """From [-1, 1] to the task's own bounds, float64 [A]."""
        assert action.shape == self.action_space.shape, (action.shape, self.action_space.shape)
        if not np.isfinite(action).all():
            raise ValueError(f"{self._name} was given an action that is not finite: {action}.")
        return rescale(action, self.action_units.low, self.action_units.high)

    def _simulate(self, control: np.ndarray) -> dm_env.TimeStep:
        """One control step of the simulator."""
        from dm_control.rl.control import PhysicsError

        assert self._num_steps is not None, "reset comes first, and again after is_last"
        try:
            row = self._env.step(control)
        except PhysicsError as error:
            raise RuntimeError(
                f"MuJoCo gave up on {self._name} after {self._num_steps} control steps of the episode: {error}"
            ) from error
        self._num_steps += 1
        return row

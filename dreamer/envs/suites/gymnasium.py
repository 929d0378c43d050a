"""Environments with the methods of gymnasium.Env: those of its registry, and any that look the same."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import DependencyNotInstalled, Error

from dreamer.config.bounds import nearest
from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing.backend import choose_backend_for_gymnasium, why_nothing_draws
from dreamer.envs.drawing.images import (
    channels_last,
    has_the_shape_of_a_picture,
    in_colour,
    is_drawing,
    shrink,
    side_by_side,
)
from dreamer.envs.notices import NOTICES
from dreamer.envs.seeding import reset_seeded, takes_keyword
from dreamer.envs.suites.imports import check_arguments, import_own, install_command
from dreamer.envs.suites.spaces import action_of, encode_picture, in_a_line, observation_entries, resized
from dreamer.types import Space, TimeStep

PICTURES = "rgb_array"
OF_THE_REGISTRY = ("max_episode_steps",)  # what gymnasium.make itself takes of env.kwargs
WITHOUT_A_SCREEN = {
    "SDL_VIDEODRIVER": "offscreen" if sys.platform == "linux" else "dummy",  # highway-env draws black with "dummy"
    "SDL_AUDIODRIVER": "dummy",
    "PYGAME_HIDE_SUPPORT_PROMPT": "1",
}
"""For pygame, with which some draw: no window is opened, so it need not look for a screen."""


def make(config: EnvConfig) -> Gymnasium:
    assert config.id is not None
    name = f"env.id={config.id}"
    for variable, value in WITHOUT_A_SCREEN.items():
        os.environ.setdefault(variable, value)
    try:
        kwargs = {**picture_mode(_creator(config.id)), **config.kwargs}
        choose_backend_for_gymnasium()
        env = gymnasium.make(config.id, disable_env_checker=True, **kwargs)
    except (Error, ImportError) as error:
        raise ValueError(f"{name}: {_first_line(error)}") from error
    except ValueError as error:
        raise cannot_be_made(name, error) from error
    return Gymnasium(env, name, config.obs, config.action_repeat, config.size, config.leave_out)


def check_config(config: EnvConfig) -> None:
    """ValueError where env.import cannot be imported, or gymnasium knows no such id or argument."""
    if config.import_:
        import_own(f"env.import={config.import_}", config.import_)
    assert config.id is not None
    creator, registered = _creator(config.id), _registered(config.id).kwargs
    kwargs = {**picture_mode(creator), **registered, **config.kwargs}
    check_arguments(f"env.id={config.id}", creator, kwargs, further=OF_THE_REGISTRY)


def cannot_be_made(name: str, error: ValueError) -> ValueError:
    """What a constructor refused, by the name that the user typed: it may be a word of theirs, or the code's fault."""
    return ValueError(f"{name} cannot be made: {_first_line(error)} (HYDRA_FULL_ERROR=1 shows where)")


def _registered(name: str) -> Any:
    """The registry's entry of this id, which may be `module:Id`: then its module is imported first."""
    module, _, id = name.rpartition(":")
    if module:
        import_own(f"env.id={name}", module)
    try:
        return gymnasium.spec(id)
    except (Error, ImportError) as error:
        similar = nearest(id, gymnasium.registry)
        hint = f"; did you mean {' or '.join(similar)}?" if similar else "."
        raise ValueError(
            f"env.id={name} is not known to gymnasium {gymnasium.__version__}{hint} "
            f"If a package adds it, name that too: env.id=its_package:{id}, or env.import=its_package."
        ) from error


def _creator(name: str) -> Any:
    """What makes the environment of this id: a class, or a function."""
    entry_point = _registered(name).entry_point
    if entry_point is None:
        raise ValueError(f"env.id={name} is registered for many environments at once only, which cannot be used here.")
    try:
        return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    except (Error, ImportError) as error:
        raise ValueError(f"env.id={name}: {_first_line(error)}") from error


def picture_mode(creator: Any) -> dict[str, str]:
    """The argument that lets an environment draw itself, where it can."""
    modes = (getattr(creator, "metadata", None) or {}).get("render_modes") or ()
    return {"render_mode": PICTURES} if PICTURES in modes and takes_keyword(creator, "render_mode") else {}


class Gymnasium:
    """Any object with `reset`, `step`, `observation_space` and `action_space` as gymnasium.Env has them.

    obs "auto" gives all that the environment gives; "vision" its pictures, "proprio" all else, "both" all of them.
    Where it has no picture, "vision" and "both" draw one with `render`, as the key `image`. Rewards are summed over the
    action repeat, which ends early with the episode. `terminated` is is_terminal; `truncated` sets is_last alone.
    `name` is how the user named it; a `size` of None leaves pictures as `images.common_size` has them. The keys of
    `leave_out` are left out whatever obs is.
    """

    def __init__(
        self, env: Any, name: str, obs: str, action_repeat: int, size: int | None, leave_out: Sequence[str] = ()
    ) -> None:
        self._env, self._name = env, name
        self._all_entries = entries = observation_entries(env.observation_space, size, name, leave_out)
        if not any(entry.space.size for entry in entries.values()):
            raise ValueError(
                f"{name} has nothing to observe: its observation_space is {in_a_line(env.observation_space)}."
            )
        self._entries = {
            key: entry for key, entry in entries.items() if entry.space.size and _is_wanted(obs, entry.space)
        }
        self.obs_space = {key: entry.space for key, entry in self._entries.items()}
        self._encode_frame = partial(encode_picture, height=size or 64, width=size or 64)
        self._is_drawn = obs in ("vision", "both") and not any(space.is_image for space in self.obs_space.values())
        if self._is_drawn:
            if "image" in self.obs_space:
                raise ValueError(
                    f"env.obs={obs}: {name} would be drawn as image, which is one of its numbers; leave these out "
                    "(env.leave_out=[image]), or rename them."
                )
            self._check_drawing(obs)
            self.obs_space["image"] = Space((size or 64, size or 64, 3), "uint8")
        if not self.obs_space or (obs == "both" and all(space.is_image for space in self.obs_space.values())):
            raise ValueError(f"env.obs={obs}: {name} has only {', '.join(entries)}; use env.obs=auto.")
        self._action = action_of(env.action_space, name)
        self.action_space, self.action_units = self._action.space, self._action.units
        self.env_steps_per_action = action_repeat
        self._obs: Any = None  # what the environment returned last
        self._is_running = False
        self._is_drawable: bool | None = None  # for people; None until somebody wants to look
        for line in resized(env.observation_space, self._entries):
            NOTICES.say_once(f"{name}: {line}.")
        for key, space in self.obs_space.items():
            if space.dtype == "float32" and has_the_shape_of_a_picture(space.shape):
                NOTICES.say_once(
                    f"{name}: {key} has the shape of a picture, but is no uint8, so the network gets {space.size:,} "
                    "separate numbers."
                )

    @property
    def raw(self) -> Any:
        """The environment around which this is."""
        return self._env

    def reset(self, seed: int) -> TimeStep:
        result = reset_seeded(self._env, seed)
        if fault := fault_of_reset(result):
            raise ValueError(f"{self._name}: {fault}")
        self._obs = result[0]
        self._is_running = True
        return TimeStep(self._observation(), 0.0, is_first=True, is_last=False, is_terminal=False)

    def step(self, action: np.ndarray) -> TimeStep:
        row = self.advance(action)
        return row._replace(obs=self._observation())

    def advance(self, action: np.ndarray) -> TimeStep:
        """Like `step`, but the observation is left empty: no picture is drawn."""
        assert self._is_running, "reset comes first, and again after is_last"
        assert action.shape == self.action_space.shape, (action.shape, self.action_space.shape)
        theirs, total = self.translate(action), 0.0
        terminated = truncated = False
        for _ in range(self.env_steps_per_action):
            result = self._env.step(theirs)
            if fault := fault_of_step(result):
                raise ValueError(f"{self._name}: {fault}")
            self._obs, reward, terminated, truncated, _ = result
            total += float(reward)
            if terminated or truncated:
                self._is_running = False
                break
        is_last = bool(terminated or truncated)
        return TimeStep({}, total, is_first=False, is_last=is_last, is_terminal=bool(terminated))

    def translate(self, action: np.ndarray) -> Any:
        """What the environment gets for an action."""
        if not np.isfinite(action).all():
            raise ValueError(f"{self._name} was given an action that is not finite: {action}.")
        return self._action.decode(action)

    def simulator_state(self) -> np.ndarray:
        """A digest of the last observation, uint8 [32]: all that the environment tells of itself, used or not."""
        digest = hashlib.sha256()
        for entry in self._all_entries.values():
            digest.update(np.ascontiguousarray(entry.read(self._obs)).tobytes())
        return np.frombuffer(digest.digest(), np.uint8).copy()

    def frame(self) -> np.ndarray | None:
        """What `render` draws, else the pictures that are observed, side by side; no side longer than 256 pixels."""
        if self._is_drawable is None:
            self._is_drawable = self._draws_for_people()
        if self._is_drawable:
            return shrink(self._render())
        images = [entry.read(self._obs) for entry in self._entries.values() if entry.space.is_image]
        return shrink(side_by_side(images)) if images else None

    def close(self) -> None:
        if hasattr(self._env, "close"):
            self._env.close()

    def _observation(self) -> dict[str, np.ndarray]:
        obs = {key: entry.read(self._obs) for key, entry in self._entries.items()}
        if self._is_drawn:
            obs["image"] = self._encode_frame(self._render())
        return obs

    def _render(self) -> np.ndarray:
        """What the environment draws, uint8 [h w 3]."""
        drawn = self._env.render()
        image = np.asarray(drawn)
        is_numbers = image.dtype.kind in "biuf"
        if not is_numbers or not is_drawing(image):
            found = f"{image.dtype} {list(image.shape)}" if is_numbers else type(drawn).__name__
            raise ValueError(f"render returns {found}, not a picture [h w 3]")
        return in_colour(channels_last(image.astype(np.uint8, copy=False)))

    def _drawing_error(self) -> Exception | None:
        """Why there is no picture: each environment, and each OpenGL, raises errors of its own."""
        if why := why_nothing_draws():
            return ValueError(why)
        try:
            self._render()
        except Exception as error:
            return error
        return None

    def _draws_for_people(self) -> bool:
        """Whether `frame` can call `render`. Nobody learns from its pictures: where it fails, a line is enough."""
        if not _can_draw(self._env):
            return False
        if (error := self._drawing_error()) is None:
            return True
        NOTICES.say_once(
            f"{self._name}: videos show what is observed, or nothing, for it cannot be drawn: {_told(error)}"
        )
        return False

    def _check_drawing(self, obs: str) -> None:
        """ValueError where the environment cannot draw itself on this machine."""
        if not _can_draw(self._env):
            raise ValueError(
                f"env.obs={obs}: {self._name} has no picture, and no render_mode rgb_array to draw one; "
                "use env.obs=auto."
            )
        reset_seeded(self._env, 0)
        if (error := self._drawing_error()) is not None:
            raise ValueError(f"env.obs={obs}: {self._name} cannot be drawn: {_told(error)}") from error


def fault_of_reset(result: Any) -> str | None:
    """What is wrong with the form of what `reset` returned, in a sentence."""
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Mapping):
        return None
    return f"reset returns {kind_of(result)}, not (observation, info)."


def fault_of_step(result: Any) -> str | None:
    """The same of `step`."""
    if isinstance(result, tuple) and len(result) == 5:
        return None
    return f"step returns {kind_of(result)}, not (observation, reward, terminated, truncated, info)."


def kind_of(value: Any) -> str:
    """A value in words."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else f"a {type(value).__name__}"


def _can_draw(env: Any) -> bool:
    """Whether `render` returns a picture; an object that knows no render_mode has no other way to draw."""
    return getattr(env, "render_mode", PICTURES if hasattr(env, "render") else None) == PICTURES


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _told(error: Exception) -> str:
    """In a line."""
    if isinstance(error, DependencyNotInstalled):
        return f"{error}; {install_command('gymnasium')}"
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _is_wanted(obs: str, space: Space) -> bool:
    return obs in ("auto", "both") or space.is_image == (obs == "vision")

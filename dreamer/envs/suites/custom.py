"""A class of the user's, with the methods of gymnasium.Env or of dm_env.Environment."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs
from gymnasium import spaces

from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing.backend import choose_backend_for_gymnasium
from dreamer.envs.notices import NOTICES
from dreamer.envs.seeding import is_seeded, reset_seeded
from dreamer.envs.suites.gymnasium import Gymnasium, cannot_be_made, picture_mode
from dreamer.envs.suites.imports import check_arguments, import_own, own_class
from dreamer.envs.suites.spaces import plain

GYMNASIUM = ("reset", "step", "observation_space", "action_space")
DM_ENV = ("reset", "step", "observation_spec", "action_spec")
LACKS = (
    f"has neither the methods of gymnasium.Env ({', '.join(GYMNASIUM)}) "
    f"nor those of dm_env.Environment ({', '.join(DM_ENV)})."
)


def make(config: EnvConfig) -> Gymnasium:
    assert config.class_ is not None
    name, own = f"env.class={config.class_}", own_class(config.class_)
    choose_backend_for_gymnasium()
    try:
        env = own(**{**picture_mode(own), **config.kwargs})
    except ValueError as error:
        raise cannot_be_made(name, error) from error
    if not has_all(env, GYMNASIUM) and not has_all(env, DM_ENV):
        raise ValueError(f"{name} {LACKS}")
    if not is_seeded(env):
        NOTICES.say_once(
            f"{name}: neither reset(seed=...) nor seed(...): no episode can be repeated, not even on resume."
        )
    if not has_all(env, GYMNASIUM):
        env = FromDmEnv(env, name)
    return Gymnasium(env, name, config.obs, config.action_repeat, config.size, config.leave_out)


def check_config(config: EnvConfig) -> None:
    """ValueError where there is no such class, or it does not take what env.kwargs gives it."""
    if config.import_:
        import_own(f"env.import={config.import_}", config.import_)
    assert config.class_ is not None
    own = own_class(config.class_)
    check_kind(f"env.class={config.class_}", own)
    check_arguments(f"env.class={config.class_}", own, {**picture_mode(own), **config.kwargs})


def check_kind(name: str, own: Any) -> None:
    """ValueError, before it is called, for what can be no environment: any program is as callable as a class.

    A function may be a factory, which only its result can tell, so no more is asked of it than to be written in Python.
    """
    if inspect.isfunction(own):
        return
    if not isinstance(own, type):
        raise ValueError(f"{name} is {own!r}, not a class, nor a Python function that returns an environment.")
    if not all(callable(getattr(own, method, None)) for method in ("reset", "step")):
        raise ValueError(f"{name} {LACKS} A class that gets them later needs a function around it that returns one.")


def has_all(env: Any, members: tuple[str, ...]) -> bool:
    """With both GYMNASIUM and DM_ENV an environment is taken for one of gymnasium."""
    return all(hasattr(env, name) for name in members)


class FromDmEnv:
    """A dm_env.Environment with the methods of gymnasium.Env; an end with a discount of 0 is `terminated`."""

    def __init__(self, env: Any, name: str) -> None:
        self.env = env
        self.observation_space = to_space(env.observation_spec(), f"{name}: observation")
        self._action_spec = env.action_spec()
        self.action_space = to_space(self._action_spec, f"{name}: action")
        if hasattr(env, "render"):
            self.render = env.render

    def reset(self, seed: int) -> tuple[Any, dict[str, Any]]:
        return reset_seeded(self.env, seed).observation, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        row: dm_env.TimeStep = self.env.step(_as_specified(action, self._action_spec))
        is_terminal = bool(row.last() and row.discount == 0)
        return row.observation, float(row.reward), is_terminal, row.last() and not is_terminal, {}

    def close(self) -> None:
        if hasattr(self.env, "close"):
            self.env.close()


def to_space(spec: Any, owner: str) -> spaces.Space:
    """A spec of dm_env, nested in mappings and sequences, as a space."""
    if isinstance(spec, Mapping):
        return spaces.Dict({key: to_space(part, f"{owner} {plain(key)}") for key, part in spec.items()})
    if isinstance(spec, list | tuple):
        return spaces.Tuple([to_space(part, owner) for part in spec])
    if isinstance(spec, specs.DiscreteArray):
        return spaces.Discrete(spec.num_values)
    if not isinstance(spec, specs.Array) or spec.dtype.kind not in "biuf":
        raise ValueError(f"{owner} is {spec}, which has no fixed shape of numbers; leave it out or wrap it.")
    if spec.dtype == bool and 0 not in spec.shape:
        return spaces.MultiBinary(spec.shape or 1)
    limits = np.iinfo(spec.dtype) if spec.dtype.kind in "iu" else None
    low, high = (limits.min, limits.max) if limits else (-np.inf, np.inf)
    if isinstance(spec, specs.BoundedArray):
        low, high = spec.minimum, spec.maximum
    low, high = (np.broadcast_to(bound, spec.shape).astype(spec.dtype) for bound in (low, high))
    return spaces.Box(low, high, spec.shape, spec.dtype.type)


def _as_specified(action: Any, spec: Any) -> Any:
    """An action of the space that `to_space` made of `spec`, in the type and shape that `spec.validate` asks for."""
    if isinstance(spec, list | tuple):
        return tuple(_as_specified(part, one) for part, one in zip(action, spec, strict=True))
    return np.asarray(action, spec.dtype).reshape(spec.shape)[()]

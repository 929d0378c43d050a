"""From a config to an environment: check that the task exists and can be seen, build it, wrap in order."""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from dreamer.bounds import nearest
from dreamer.config import EnvConfig
from dreamer.envs import dmc, dummy, rendering
from dreamer.envs.process import ProcessVector
from dreamer.envs.spec import Env
from dreamer.envs.vector import SerialVector, Vector
from dreamer.envs.wrappers import EpisodeJournal

SUITES = ("dmc", "dummy")


def make_envs(config: EnvConfig) -> Vector:
    """All num_envs environments that `config` names, in this process or each in its own."""
    check_env(config)
    makers = [partial(make_env, config)] * config.num_envs
    return ProcessVector(makers) if config.workers == "process" else SerialVector([make() for make in makers])


def make_env(config: EnvConfig) -> EpisodeJournal:
    """The environment that `config` names (one of its num_envs), with its journal around it."""
    check_env(config)
    if config.suite == "dmc":
        env: Env = dmc.DMC(config.name, config.obs, config.action_repeat, config.size, config.camera, config.render)
    else:
        env = dummy.TASKS[config.name](obs=config.obs, action_repeat=config.action_repeat, size=config.size)
    return EpisodeJournal(env)


def check_env(config: EnvConfig) -> None:
    """ValueError, by the name that the user typed, if the task does not exist or cannot be drawn on this machine.

    Ranges of single values are the config's own matter; what is asked here, only the simulator can answer.
    """
    if config.suite not in SUITES:
        raise ValueError(f"env.suite={config.suite} must be {' or '.join(SUITES)}.")
    names = dmc.task_names() if config.suite == "dmc" else dummy.TASKS
    if config.name not in names:
        raise ValueError(
            f"env.name={config.name} is not a task of env.suite={config.suite}; {_suggestion(config.name, names)}"
        )
    if config.suite == "dmc":
        _check_camera(config)
        if config.uses_pixels:
            rendering.find_renderer()


def _suggestion(name: str, names: Collection[str]) -> str:
    similar = nearest(name, names)
    return f"did you mean {' or '.join(similar)}?" if similar else f"some are {', '.join(sorted(names)[:5])}."


def _check_camera(config: EnvConfig) -> None:
    if config.camera == 0:  # every task has it, so most runs need not load a model to know
        return
    num_cameras = dmc.num_cameras(config.name)
    if not -1 <= config.camera < num_cameras:
        raise ValueError(
            f"env.camera={config.camera} must be from 0 to {num_cameras - 1} for {config.name}, or -1, the free camera."
        )

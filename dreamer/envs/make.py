"""From a config to an environment: check that it exists and can be seen, build it, put a journal around it."""

from __future__ import annotations

from functools import partial
from typing import Protocol

from dreamer.config.schema import EnvConfig
from dreamer.envs.spec import Env
from dreamer.envs.suites import atari, crafter, custom, dmc, dummy, gymnasium
from dreamer.envs.vector import SerialVector, Vector
from dreamer.envs.workers.cluster import RayVector, check_ray
from dreamer.envs.workers.process import ProcessVector
from dreamer.envs.wrappers import EpisodeJournal


class Maker(Protocol):
    """A file of suites/ offers these two functions."""

    def check_config(self, config: EnvConfig) -> None:
        """ValueError, by the name that the user typed, for what does not exist or cannot work on this machine.

        Ranges of single values are the config's own matter; what is asked here, only the simulator can answer.
        """
        ...

    def make(self, config: EnvConfig) -> Env:
        """The environment; `check_config` comes before."""
        ...


MAKERS: dict[str, Maker] = {
    "dmc": dmc,
    "dummy": dummy,
    "gymnasium": gymnasium,
    "atari": atari,
    "crafter": crafter,
    "custom": custom,
}
"""env.suite -> the file that makes it. config/schema.py: SUITES has the same names, and the keys that each takes."""


def make_envs(config: EnvConfig) -> Vector:
    """All num_envs environments that `config` names, in this process, each in its own, or on a Ray cluster."""
    check_env(config)
    check_workers(config)
    makers = [partial(make_env, config)] * config.num_envs
    if config.workers == "process":
        return ProcessVector(makers, config.step_timeout)
    if config.workers == "ray":
        return RayVector(makers, config.step_timeout, config.ray_address, config.ray_cpus)
    return SerialVector([make() for make in makers])


def make_env(config: EnvConfig) -> EpisodeJournal:
    """The environment that `config` names (one of its num_envs), with its journal around it."""
    check_env(config)
    return EpisodeJournal(MAKERS[config.suite].make(config))


def check_env(config: EnvConfig) -> None:
    """ValueError for what `Maker.check_config` finds."""
    MAKERS[config.suite].check_config(config)


def check_workers(config: EnvConfig) -> None:
    """ValueError where what env.workers asks for is not installed."""
    if config.workers == "ray":
        check_ray()

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig

from dreamer.config.compose import parse
from dreamer.config.schema import SUITES, EnvConfig
from dreamer.envs.make import MAKERS, check_env, make_env
from dreamer.envs.suites import dmc

Compose = Callable[..., DictConfig]
CONF = Path(__file__).parents[2] / "conf"
OF_THE_SUITE = sorted(
    path.stem for path in (CONF / "env").glob("[!_]*.yaml") if "_dmc" in path.read_text(encoding="utf-8")
)


def valid(**changes: Any) -> EnvConfig:
    return EnvConfig(**{"suite": "dmc", "name": "walker_walk", "obs": "proprio", **changes})


def test_every_task_of_the_control_suite_has_a_file() -> None:
    dmc.task_names()  # chooses how to render, before the suite is imported
    from dm_control import suite

    assert {f"{domain}_{task}" for domain, task in suite.ALL_TASKS} == set(OF_THE_SUITE)


def test_every_suite_of_the_config_has_a_file_that_makes_it() -> None:
    assert MAKERS.keys() == SUITES.keys()


@pytest.mark.parametrize("name", OF_THE_SUITE)
def test_a_file_is_named_for_its_task_and_passes_the_checks(composed: Compose, name: str) -> None:
    config = parse(composed(f"env={name}", "env.obs=proprio")).env
    assert config.name == name
    assert config.camera == (2 if name.startswith("quadruped") else 0)
    check_env(config)


@pytest.mark.parametrize(
    "name", ["reacher_easy", "humanoid_CMU_stand", "dummy_counter_discrete", "dummy_recall", "memory"]
)
def test_a_made_environment_runs(composed: Compose, name: str) -> None:
    config = parse(composed(f"env={name}", "env.obs=proprio")).env
    env = make_env(config)
    assert env.env_steps_per_action == config.action_repeat
    assert env.reset(0).is_first
    assert not env.step(np.zeros(env.action_space.shape, env.action_space.dtype)).is_first
    env.close()


@pytest.mark.usefixtures("renderer")
def test_vision_is_what_the_files_ask_for(composed: Compose) -> None:
    config = parse(composed("env=walker_walk")).env
    assert (config.obs, config.size, config.action_repeat) == ("vision", 64, 2)
    assert make_env(config).reset(0).obs["image"].shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"camera": 7}, "env.camera=7 must be from 0 to 1 for walker_walk, or -1, the free camera."),
        ({"camera": -2}, "env.camera=-2 must be from 0 to 1 for walker_walk, or -1, the free camera."),
        ({"name": "walker_wlak"}, "env.name=walker_wlak is not a task of env.suite=dmc; did you mean walker_walk"),
        ({"name": "atari_pong"}, "env.name=atari_pong is not a task of env.suite=dmc;"),
        ({"name": "xyz"}, "env.name=xyz is not a task of env.suite=dmc; some are acrobot_swingup"),
        (
            {"suite": "dummy", "name": "memory", "kwargs": {"obs": "vision"}},
            "env.kwargs.obs is set by env.obs; give env.obs=... instead.",
        ),
        ({"suite": "dummy"}, "env.name=walker_walk is not a task of env.suite=dummy; some are dummy_counter"),
    ],
)
def test_what_cannot_work_is_refused_by_the_name_the_user_typed(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_env(valid(**changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

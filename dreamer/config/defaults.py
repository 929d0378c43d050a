"""The config that a run would have had with nothing typed but its task and its network."""

from __future__ import annotations

from typing import Any

from hydra import compose
from hydra.core.global_hydra import GlobalHydra

from dreamer.config.compose import flat, parse, to_dict
from dreamer.config.schema import SUITES, Config

NOT_SETTINGS = ("run_dir", "resume", "seed")


def base_words(config: Config) -> list[str]:
    """`env=walker_walk`, and `model=size12m` or `debug=tiny` where the network is not the default one.

    For a task that no file of conf/env is called like, its suite with the key that it needs.
    """
    options = GlobalHydra.instance().config_loader().get_group_options
    env, model = config.env, config.model.name
    words = [f"env={env.name if env.name in options('env') else env.suite}"]
    if needed := SUITES[env.suite].needs:
        words.append(f"env.{needed}={getattr(env, 'class_' if needed == 'class' else needed)}")
    if model in options("debug"):
        words.append(f"debug={model}")
    elif model != "laptop" and model in options("model"):
        words.append(f"model={model}")
    return words


def compared(config: Config) -> tuple[list[str], dict[str, tuple[Any, Any]]]:
    """These words, and key -> (its value after them alone, its value in `config`) where the two differ.

    Hydra is running already. With the key=value of these behind them, the words give this config again.
    """
    words = base_words(config)
    default = flat(to_dict(parse(compose("config", overrides=["run_dir=runs/default", *words]))))
    values = flat(to_dict(config))
    keys = [*values, *(key for key in default if key not in values and default[key] != {})]  # {} was filled
    differing = [key for key in keys if key not in NOT_SETTINGS and default.get(key) != values.get(key)]
    return words, {key: (default.get(key), values.get(key)) for key in differing}

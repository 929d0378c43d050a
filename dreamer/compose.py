"""From the YAML that Hydra composes to a checked Config, and from that to what is saved and back."""

from __future__ import annotations

import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dreamer.bounds import KEYWORDS, check_bounds, typed
from dreamer.checks import check_lengths, check_network, check_suite
from dreamer.config import SUITE_KEYS, SUITES, Config, EnvConfig


def register(keys: type[Config] | None = None) -> None:
    """Make known to Hydra `schema`, with which conf/config.yaml begins, and the resolvers of its files.

    `keys`: Config, or a class derived from it with keys of a script beside those of training.
    """
    schema = OmegaConf.structured(keys_as_typed(keys or Config))
    OmegaConf.set_struct(schema.env.kwargs, False)  # whose keys are the user's own
    ConfigStore.instance().store(name="schema", node=schema)
    OmegaConf.register_new_resolver("file_name", file_name, replace=True)
    OmegaConf.register_new_resolver("share_of_return", share_of_return, replace=True)


def file_name(text: str | None) -> str:
    """`ALE/Pong-v5` as `ALE_Pong-v5`, which can name a directory."""
    return re.sub(r"[^\w.-]+", "_", str(text))


def share_of_return(share: float, max_reward: float | None, action_repeat: int, discount_horizon: float) -> float:
    """`share` of the largest discounted return that a task can give, and at least 1; 1 where `max_reward` is null.

    1 is what the paper takes for every task as the least scale of returns (`model.return_norm.limit`).
    """
    return max(1.0, share * (max_reward or 0) * action_repeat * discount_horizon)


def keys_as_typed(keys: type[Config]) -> type:
    """`keys` with the keys as the user types them: a schema for OmegaConf, which nobody makes an object of.

    `env.import` and `env.class` cannot be attributes, so this block of the schema has no code but its fields.
    """
    body: dict[str, Any] = {"__module__": __name__, "__annotations__": {}}
    for item in fields(EnvConfig):
        body["__annotations__"][typed(item.name)] = item.type
        has_value = item.default is not NO_DEFAULT
        body[typed(item.name)] = item.default if has_value else field(default_factory=cast(Any, item.default_factory))
    env = dataclass(init=False, repr=False, eq=False)(type("EnvKeys", (), body))
    return make_dataclass(
        "Keys", [("env", env, field(default_factory=lambda: OmegaConf.structured(env)))], bases=(keys,)
    )


def parse(cfg: DictConfig) -> Config:
    """The composed YAML as dataclasses, complete and checked; a ValueError names the first key that is not.

    Merged once more into the schema, which refuses what `+key=value` added and restores what `~key` took away.
    """
    merged = OmegaConf.merge(OmegaConf.structured(keys_as_typed(Config)), OmegaConf.to_container(cfg))
    for key, value in flat(cast(dict[str, Any], OmegaConf.to_container(merged))).items():
        if value in (MISSING, "") and not key.startswith("env.kwargs."):
            raise ValueError(f"{key} has no value; give {key}=... on the command line or in a YAML file.")
    values = cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    for name, key in KEYWORDS.items():
        values["env"][name] = values["env"].pop(key)
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    assert isinstance(config, Config), type(config)
    check_bounds(config)
    check_suite(config.env)
    check_network(config)
    check_lengths(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The plain dictionary that is saved beside a run and inside a checkpoint, with the keys as they are typed.

    Left out is what the suite of the environment has no use for, so that a key for another kind of environment does
    not change which experiment this is.
    """
    values = asdict(config, dict_factory=lambda pairs: {typed(name): value for name, value in pairs})
    for key in SUITE_KEYS.difference(SUITES[config.env.suite].keys):
        del values["env"][key]
    return values


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of to_dict; keys that are absent take their default."""
    try:
        return parse(OmegaConf.create(values))
    except OmegaConfBaseException as error:
        raise ValueError(f"The saved config does not fit this version: {str(error).splitlines()[0]}.") from error


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys; an empty one is a value."""
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        pairs.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value})
    return pairs

"""From the YAML that Hydra composes to a checked Config, and from that to what is saved and back."""

from __future__ import annotations

import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, dataclass, field, fields, is_dataclass, make_dataclass
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dreamer.config.bounds import KEYWORDS, check_bounds, typed
from dreamer.config.checks import (
    check_explore,
    check_lengths,
    check_logger,
    check_network,
    check_ranks,
    check_suite,
    check_workers,
)
from dreamer.config.schema import SUITE_KEYS, SUITES, Config, EnvConfig, share_of_return

MOST_VALUES, DEEPEST = 10_000, 16  # of a saved config; honest ones have about a hundred, three deep
INTERPOLATION = "${"
CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]"
"""What a terminal obeys, but for the ends of lines and the tabs; halves of pairs, which no file in UTF-8 can hold."""


def register(keys: type[Config] | None = None) -> None:
    """Make known to Hydra `schema`, with which conf/config.yaml begins, and the resolvers of its files.

    `keys`: Config, or a class derived from it with keys of a script beside those of training.
    """
    schema = OmegaConf.structured(keys_as_typed(keys or Config))
    OmegaConf.set_struct(schema.env.kwargs, False)  # whose keys are the user's own
    store = ConfigStore.instance()
    store.store(name="schema", node=schema)
    # For each group that --help lists Hydra copies its sources, this store of all nodes among them: a second and more.
    store.__deepcopy__ = the_store  # pyright: ignore[reportAttributeAccessIssue]
    OmegaConf.register_new_resolver("file_name", file_name, replace=True)
    OmegaConf.register_new_resolver("share_of_return", share_of_return, replace=True)


def the_store(memo: dict[int, Any]) -> ConfigStore:
    """In place of its copy: there is one, and what is taken out of it is copied then."""
    return ConfigStore.instance()


def file_name(text: str | None) -> str:
    """`ALE/Pong-v5` as `ALE_Pong-v5`, which can name a directory."""
    return re.sub(r"[^\w.-]+", "_", str(text))


def keys_as_typed(keys: type, env_keys: type = EnvConfig) -> type:
    """`keys` with the keys as the user types them: a schema for OmegaConf, which nobody makes an object of.

    `env.import` and `env.class` cannot be attributes, so the block `env`, whose keys are the fields of `env_keys`, has
    no code but its fields.
    """
    body: dict[str, Any] = {"__module__": __name__, "__annotations__": {}}
    for item in fields(env_keys):
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
        if key.startswith("env.kwargs."):  # the user's own, of any kind
            continue
        if isinstance(value, list) and any(isinstance(entry, list | dict) for entry in value):
            raise ValueError(f"{key}={value} must be a list of plain values.")
        if value in (MISSING, ""):
            raise ValueError(f"{key} has no value; give {key}=... on the command line or in a YAML file.")
    values = cast(dict[str, Any], OmegaConf.to_container(merged, resolve=True))
    values["env"] = as_fields(values["env"])
    config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), values))
    assert isinstance(config, Config), type(config)
    check_bounds(config)
    check_suite(config.env)
    check_workers(config.env)
    check_network(config)
    check_explore(config.explore)
    check_logger(config.logger)
    check_lengths(config)
    check_ranks(config)
    check_saved(to_dict(config), "This config")
    return config


def as_fields(values: dict[str, Any]) -> dict[str, Any]:
    """Values of the block `env` under the names of its fields, where they were under the keys as they are typed."""
    names = {key: name for name, key in KEYWORDS.items()}
    return {names.get(key, key): value for key, value in values.items()}


def to_dict(config: Config) -> dict[str, Any]:
    """The plain dictionary that is saved beside a run and inside a checkpoint, with the keys as they are typed.

    Left out is what the suite of the environment has no use for, so that a key for another kind of environment does
    not change which experiment this is.
    """
    values = asdict(config, dict_factory=lambda pairs: {typed(name): value for name, value in pairs})
    for key in SUITE_KEYS.difference(SUITES[config.env.suite].keys):
        del values["env"][key]
    return values


def from_dict(values: Any) -> Config:
    """The inverse of to_dict; keys that are absent take their default. Nothing is run, whoever wrote it."""
    check_saved(values)
    try:
        return parse(cast(DictConfig, OmegaConf.create(values)))
    except OmegaConfBaseException as error:
        raise ValueError(f"The saved config does not fit this version: {str(error).splitlines()[0]}.") from error


def check_saved(values: Any, whole: str = "The saved config") -> None:
    """ValueError, by the key, where a saved config holds what `to_dict` does not write.

    That is resolved already, so what looks like an interpolation would only be run for somebody else. After this
    nothing in it can be more than a plain value, or stand where a group of keys belongs. `parse` asks the same of what
    is to be saved, or a run would end in a file that nobody can load.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{whole} is {shown(values)}, not a mapping of keys.")
    num_values = 0
    remaining: list[tuple[str, Any, int]] = [("", values, 0)]  # no recursion: a file may be as deep as it likes
    while remaining:
        key, value, depth = remaining.pop()
        num_values += 1
        if depth > DEEPEST or num_values > MOST_VALUES:
            limit = f"{DEEPEST} levels" if depth > DEEPEST else f"{MOST_VALUES:,} values"
            raise ValueError(f"{whole} has more than {limit}, at {shown(key)}; no run writes that.")
        if isinstance(value, dict):
            for name in value:
                if not isinstance(name, str) or INTERPOLATION in name or re.search(CONTROL, name):
                    raise ValueError(f"{whole} has the key {shown(name)} in {shown(key) or 'itself'}, no name.")
            remaining += [(f"{key}.{name}" if key else name, part, depth + 1) for name, part in value.items()]
        elif isinstance(value, list):
            remaining += [(f"{key}[{index}]", part, depth + 1) for index, part in enumerate(value)]
        else:
            _check_plain(key, value, whole)
    for item in fields(Config):
        _check_groups(item.name, item.default_factory, values, whole)


def _check_plain(key: str, value: Any, whole: str) -> None:
    if isinstance(value, str) and INTERPOLATION in value:
        raise ValueError(f"{whole} has {shown(key)}={shown(value)}; nothing in a saved config is interpolated.")
    if isinstance(value, str) and re.search(CONTROL, value):
        raise ValueError(f"{whole} has {shown(key)}={shown(value)}, with characters that are no text.")
    if value is not None and type(value) not in (bool, int, float, str):
        raise ValueError(f"{whole} has {shown(key)}={shown(value)}, which is no plain value.")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{whole} has {shown(key)} with {value.bit_length()} bits, at most 63 are taken.")


def _check_groups(key: str, group: Any, values: dict[str, Any], whole: str) -> None:
    """ValueError where `values` hold something else than keys under the name of a group, at any depth."""
    if not is_dataclass(group) or (name := key.rpartition(".")[2]) not in values:
        return
    if not isinstance(values[name], dict):
        raise ValueError(f"{whole} has {key}={shown(values[name])}, where a group of keys belongs.")
    for item in fields(group):
        _check_groups(f"{key}.{item.name}", item.default_factory, values[name], whole)


def shown(value: Any, most: int = 80) -> str:
    """A stranger's value in a line of a message: short, and without what a terminal would obey."""
    if not isinstance(value, str):
        value = repr(value) if type(value) in (bool, int, float, type(None)) else f"a {type(value).__name__}"
    text = value[:most] + ("..." if len(value) > most else "")
    return text if text.isprintable() else ascii(text)


def flat(values: dict[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys; an empty one is a value."""
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        pairs.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value})
    return pairs

"""Keys of a config that must fit each other; each function raises a ValueError that names them as they are typed."""

from __future__ import annotations

import math
import re
from dataclasses import MISSING as NO_DEFAULT

from dreamer.config.bounds import leaves, nearest_multiple
from dreamer.config.schema import (
    EXPLORE_KEYS,
    LOGGER_KEYS,
    SUITE_KEYS,
    SUITES,
    Config,
    EnvConfig,
    ExploreConfig,
    LoggerConfig,
    ModelConfig,
)


def check_suite(env: EnvConfig) -> None:
    """Whether the keys fit the kind of environment."""
    if env.suite not in SUITES:
        raise ValueError(f"env.suite={env.suite} must be {', '.join(list(SUITES)[:-1])} or {list(SUITES)[-1]}.")
    suite = SUITES[env.suite]
    for key, item, value in leaves(env):
        default = item.default_factory() if item.default_factory is not NO_DEFAULT else item.default
        if key in SUITE_KEYS.difference(suite.keys) and value != default:
            others = " or ".join(name for name, other in SUITES.items() if key in other.keys)
            typed = f"[{','.join(value)}]" if isinstance(value, list) else value
            raise ValueError(f"env.{key}={typed} means nothing with env.suite={env.suite}; it belongs to {others}.")
        if key == suite.needs and value is None:
            raise ValueError(f"env.{key} has no value; give env.{key}=... on the command line or in a YAML file.")
    if env.obs not in suite.obs:
        raise ValueError(f"env.obs={env.obs} must be {' or '.join(suite.obs)} with env.suite={env.suite}.")


def check_workers(env: EnvConfig) -> None:
    """Whether the keys of Ray are given where it is used, and its address has a form that it can have."""
    if env.ray_address is not None:
        check_ray_address("env.ray_address", env.ray_address)
    for key, item, value in leaves(env):
        if key.startswith("ray_") and env.workers != "ray" and value != item.default:
            raise ValueError(
                f"env.{key}={value} means nothing with env.workers={env.workers}; it belongs to env.workers=ray."
            )


def check_ray_address(name: str, address: str) -> None:
    """ValueError where this is no address of a Ray cluster; `name` is what gave it."""
    if address not in ("local", "auto") and not re.fullmatch(r"[\w.-]+:\d{1,5}", address):
        client = " Ray Client (ray://) is not used: let this machine join the cluster." if "://" in address else ""
        raise ValueError(
            f"{name}={address} must be HOST:PORT of the head of a Ray cluster that this machine is part of, auto (the "
            f"one that runs here) or local (one that ends with the run).{client}"
        )


def check_explore(explore: ExploreConfig) -> None:
    """Whether the keys are of the way to explore that was chosen."""
    _check_chosen("explore", explore, EXPLORE_KEYS)


def check_logger(logger: LoggerConfig) -> None:
    """Whether the keys are of the logger that was chosen."""
    _check_chosen("logger", logger, LOGGER_KEYS)


def _check_chosen(group: str, config: ExploreConfig | LoggerConfig, keys: dict[str, tuple[str, ...]]) -> None:
    for key, item, value in leaves(config):
        if key != "name" and key not in keys[config.name] and value != item.default:
            others = " or ".join(f"{group}={name}" for name, taken in keys.items() if key in taken)
            raise ValueError(f"{group}.{key}={value} means nothing with {group}={config.name}; it belongs to {others}.")


def check_network(config: Config) -> None:
    """Whether widths fit their blocks and limits their counterparts, and pictures of `env.size` the networks."""
    model = config.model
    rssm, actor, norm = model.rssm, model.actor, model.return_norm
    if rssm.deter % rssm.blocks:
        raise ValueError(
            f"model.rssm.deter={rssm.deter} must be a multiple of model.rssm.blocks={rssm.blocks}; "
            f"try {nearest_multiple(rssm.deter, rssm.blocks)}."
        )
    if actor.min_std > actor.max_std:
        raise ValueError(f"model.actor.min_std={actor.min_std} must be at most model.actor.max_std={actor.max_std}.")
    if norm.low >= norm.high:
        raise ValueError(f"model.return_norm.low={norm.low} must be below model.return_norm.high={norm.high}.")
    if config.env.uses_pixels and config.env.size:
        check_picture_networks(model, f"env.size={config.env.size}", config.env.size)


def check_picture_networks(model: ModelConfig, name: str, *sizes: int) -> None:
    """ValueError where encoder or decoder do not fit pictures of these sizes (height, width), which `name` tells."""
    rssm, encoder, decoder = model.rssm, model.encoder, model.decoder
    for part, network in (("encoder", encoder), ("decoder", decoder)):
        if network.strided and network.kernel < 3:
            raise ValueError(f"model.{part}.kernel={network.kernel} must be at least 3 with model.{part}.strided=true.")
    if rssm.deter % decoder.blocks:
        raise ValueError(
            f"model.rssm.deter={rssm.deter} must be a multiple of model.decoder.blocks={decoder.blocks}; "
            f"try {nearest_multiple(rssm.deter, decoder.blocks)}."
        )
    mult = decoder.mults[-1]
    if mult * model.depth % decoder.blocks:
        step = decoder.blocks // math.gcd(mult, decoder.blocks)
        raise ValueError(
            f"model.depth={model.depth} times {mult}, the last of model.decoder.mults, must be a multiple of "
            f"model.decoder.blocks={decoder.blocks}; try model.depth={nearest_multiple(model.depth, step)}."
        )
    for part, mults, first in (("encoder", encoder.mults, encoder.patch or 2), ("decoder", decoder.mults, 2)):
        factor = first * 2 ** (len(mults) - 1)
        for size in sizes:
            if size % factor:
                raise ValueError(
                    f"{name} must be a multiple of {factor}, since model.{part}.mults has {len(mults)} stages, "
                    f"the first of factor {first}, the others of 2; try env.size={nearest_multiple(size, factor)}."
                )


def check_lengths(config: Config) -> None:
    """Whether imagination fits the sequences of a batch, and a batch fits replay."""
    last, every = config.model.imagination.last, config.model.decoder.every
    if config.batch_length % every:
        raise ValueError(f"model.decoder.every={every} must divide batch_length={config.batch_length}.")
    if last > config.batch_length:
        raise ValueError(f"model.imagination.last={last} must be at most batch_length={config.batch_length}; 0: all.")
    if last == 1:  # the critic's loss on replayed rows needs the row after each
        raise ValueError("model.imagination.last=1 must be 0 (all rows) or at least 2.")
    # A sequence has one row more than is trained, its context, and does not cross from one environment to another.
    num_envs, rows = config.env.num_envs, config.batch_length + 1
    starts = math.ceil(config.batch_size / num_envs)  # in each environment, for a batch to be drawn
    least = max(config.batch_size * rows, num_envs * (config.batch_length + starts))
    if config.replay.capacity < least:
        raise ValueError(
            f"replay.capacity={config.replay.capacity} must be at least {least}: one batch of batch_size="
            f"{config.batch_size} sequences of batch_length={config.batch_length} rows and one of context, from "
            f"env.num_envs={num_envs}."
        )


def check_ranks(config: Config) -> None:
    """Whether what all processes of the run have together can be shared out among them."""
    trainer, size = config.trainer, config.trainer.world_size
    if size == 1:
        return
    asked = " ".join(
        f"trainer.{key}={value}"
        for key, value in (("devices", trainer.devices), ("num_nodes", trainer.num_nodes))
        if value > 1
    )
    if trainer.device == "mps":
        raise ValueError(f"{asked} cannot be with trainer.device=mps: there is one such device.")
    for key, value in (("batch_size", config.batch_size), ("env.num_envs", config.env.num_envs)):
        if value % size:
            raise ValueError(
                f"{asked}: {key}={value}, of all processes together, must be a multiple of {size}; "
                f"try {key}={nearest_multiple(value, size)}."
            )
    if config.env.step_timeout >= trainer.rank_timeout:
        raise ValueError(
            f"trainer.rank_timeout={trainer.rank_timeout:g} must be above env.step_timeout="
            f"{config.env.step_timeout:g}: the others wait while an environment is started again."
        )

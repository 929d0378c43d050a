"""Every hyperparameter, one dataclass per block. YAML composes them, these classes check spelling, types and ranges.

A count that people write as 1e6 is typed `int | float` and becomes an int: a plain int field refuses 1e6.
This module imports no torch, so that `--help` and `--cfg job` answer at once.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dreamer.bounds import bounded, check_bounds, nearest_multiple, one_of, whole


@dataclass
class EnvConfig:
    """Which task, seen how."""

    suite: str = MISSING  # dmc
    name: str = MISSING  # <domain>_<task>, also the name of the config file
    obs: str = one_of("vision", "proprio", "both")
    action_repeat: int = bounded(2, low=1)  # simulator control steps per policy step
    size: int = bounded(64, low=1)  # pixels, height and width
    camera: int = bounded(0, low=-1)  # -1: the free camera
    render: str = one_of("near", "reference", "lossless", "near2", "fast")  # how pictures are drawn: docs/rendering.md
    num_envs: int = bounded(1, low=1)

    @property
    def uses_pixels(self) -> bool:
        return self.obs != "proprio"


@dataclass
class RSSMConfig:
    """Recurrent state-space model (section 2 and 4 of docs/algorithm.md)."""

    deter: int = bounded(MISSING, low=1)  # D, length of h_t
    hidden: int = bounded(MISSING, low=1)  # width of every layer inside the RSSM
    stoch: int = bounded(32, low=1)  # S, groups of z_t
    classes: int = bounded(MISSING, low=2)  # K, classes per group
    blocks: int = bounded(8, low=1)  # G, blocks of the recurrent cell
    dyn_layers: int = bounded(1, low=1)
    obs_layers: int = bounded(1, low=1)
    img_layers: int = bounded(2, low=1)
    unimix: float = bounded(0.01, low=0, below=1)


@dataclass
class EncoderConfig:
    layers: int = bounded(3, low=1)  # of the vector network
    kernel: int = bounded(5, low=1, is_odd=True)
    mults: list[int] = bounded([2, 3, 4, 4], low=1)  # channels of each stage, times model.depth
    strided: bool = False  # stride-2 convolutions instead of convolution and 2x2 max-pool


@dataclass
class DecoderConfig:
    layers: int = bounded(3, low=1)
    kernel: int = bounded(5, low=1, is_odd=True)
    mults: list[int] = bounded([2, 3, 4, 4], low=1)
    strided: bool = False  # transposed convolutions instead of nearest upsampling and convolution
    blocks: int = bounded(8, low=1)  # groups of the block-linear layer from deter


@dataclass
class HeadConfig:
    layers: int = bounded(1, low=1)
    bins: int = bounded(255, low=3, is_odd=True)  # odd: the middle one is 0
    outscale: float = bounded(0.0, low=0)  # scale of the output layer's initial weights


@dataclass
class ContHeadConfig:
    layers: int = bounded(1, low=1)
    outscale: float = bounded(1.0, low=0)


@dataclass
class ActorConfig:
    layers: int = bounded(3, low=1)
    dist: str = one_of("normal", "tanh_normal")  # continuous actions: the paper's | older agents'
    min_std: float = bounded(0.1, above=0)
    max_std: float = bounded(1.0, above=0)
    outscale: float = bounded(0.01, low=0)
    unimix: float = bounded(0.0, low=0, below=1)  # discrete actions: 0 is the authors' code, 0.01 the paper's text
    entropy: float = bounded(3e-4, low=0)


@dataclass
class CriticConfig:
    layers: int = bounded(3, low=1)
    bins: int = bounded(255, low=3, is_odd=True)
    outscale: float = bounded(0.0, low=0)
    slow_rate: float = bounded(0.02, above=0, high=1)  # slow critic: slow <- rate * fast + (1 - rate) * slow
    slow_every: int = bounded(1, low=1)  # updates between two such steps
    slow_reg: float = bounded(1.0, low=0)  # weight of the regression towards the slow critic
    slow_target: bool = False  # bootstrap from the slow critic instead of the fast one


@dataclass
class ReturnNormConfig:
    """Percentile range of returns (the paper's return normalisation)."""

    rate: float = bounded(0.01, above=0, high=1)
    low: float = bounded(5.0, low=0, high=100)
    high: float = bounded(95.0, low=0, high=100)
    limit: float = bounded(1.0, above=0)  # the scale is never below this


@dataclass
class ImaginationConfig:
    horizon: int = bounded(15, low=1)
    last: int = bounded(0, low=0)  # start from the last K states of each sequence; 0 means all
    lambda_: float = bounded(0.95, low=0, high=1)


@dataclass
class LossScales:
    rec: float = bounded(1.0, low=0)  # every reconstructed key
    reward: float = bounded(1.0, low=0)
    cont: float = bounded(1.0, low=0)
    dyn: float = bounded(1.0, low=0)
    rep: float = bounded(0.1, low=0)
    actor: float = bounded(1.0, low=0)
    critic: float = bounded(1.0, low=0)
    replay_value: float = bounded(0.3, low=0)


@dataclass
class OptimConfig:
    """LaProp with adaptive gradient clipping."""

    lr: float = bounded(4e-5, above=0, below=1)
    world_lr: float | None = bounded(None, above=0, below=1)  # null: the same as lr
    actor_lr: float | None = bounded(None, above=0, below=1)
    critic_lr: float | None = bounded(None, above=0, below=1)
    agc: float = bounded(0.3, above=0)
    beta1: float = bounded(0.9, low=0, below=1)
    beta2: float = bounded(0.999, low=0, below=1)
    eps: float = bounded(1e-20, above=0)
    warmup: int = bounded(1000, low=0)  # updates over which the rate grows from 0


@dataclass
class ModelConfig:
    name: str = MISSING
    units: int = bounded(MISSING, low=1)  # width of every MLP
    depth: int = bounded(MISSING, low=1)  # base number of convolution channels
    free_nats: float = bounded(1.0, low=0)
    discount_horizon: float = bounded(333.0, above=1)  # discount = 1 - 1 / discount_horizon
    rssm: RSSMConfig = field(default_factory=RSSMConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    reward: HeadConfig = field(default_factory=HeadConfig)
    cont: ContHeadConfig = field(default_factory=ContHeadConfig)
    actor: ActorConfig = field(default_factory=ActorConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    return_norm: ReturnNormConfig = field(default_factory=ReturnNormConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    loss_scales: LossScales = field(default_factory=LossScales)
    optim: OptimConfig = field(default_factory=OptimConfig)

    @property
    def discount(self) -> float:
        return 1 - 1 / self.discount_horizon


@dataclass
class TrainerConfig:
    max_steps: int | float = bounded(1e6, low=1, is_whole=True)  # environment steps: control steps, repeat included
    train_ratio: float = bounded(128.0, above=0)  # replayed time steps per policy step
    collect_steps: int | float = bounded(1024, low=0, is_whole=True)  # random policy steps before the first update
    eval_every: int | float = bounded(2e4, low=0, is_whole=True)  # environment steps; 0 never
    eval_episodes: int = bounded(3, low=1)
    video_every: int | float = bounded(2e4, low=0, is_whole=True)  # between open-loop videos; 0 never
    log_every: int | float = bounded(1e3, low=1, is_whole=True)  # environment steps between two rows of scalars
    checkpoint_minutes: float = bounded(5.0, above=0)
    device: str = one_of("auto", "cpu", "cuda", "mps")
    precision: str = one_of("auto", "float32", "bfloat16")
    compile: str = one_of("auto", "on", "off")  # torch.compile for the updates; auto: in runs long enough to gain
    threads: int = bounded(0, low=0)  # CPU threads of an update; 0 means auto
    overlap: bool = False  # environments step in a thread beside the updates; pays with more than two cores or a GPU
    profile: bool = False  # write a trace of a few updates into the run directory

    def __post_init__(self) -> None:
        self.max_steps = whole(self.max_steps)
        self.collect_steps = whole(self.collect_steps)
        self.eval_every = whole(self.eval_every)
        self.video_every = whole(self.video_every)
        self.log_every = whole(self.log_every)


@dataclass
class ReplayConfig:
    capacity: int | float = bounded(250_000, low=1, is_whole=True)  # policy steps, over all environments
    storage: str = one_of("auto", "ram", "disk")
    online: bool = True  # train on every fresh sequence once, as soon as it is complete

    def __post_init__(self) -> None:
        self.capacity = whole(self.capacity)


@dataclass
class LoggerConfig:
    name: str = one_of("tensorboard", "csv")


@dataclass
class Config:
    env: EnvConfig = field(default_factory=EnvConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    batch_size: int = bounded(16, low=1)  # B, sequences per update
    batch_length: int = bounded(64, low=2)  # T, trained steps per sequence
    seed: int = bounded(0, low=0, high=2**32 - 1)  # NumPy takes no other
    run_dir: str = MISSING
    resume: str = one_of("auto", "never")

    @property
    def num_updates(self) -> float:
        """Updates of the whole run; the rows of resets, which ask for some more, are left out."""
        policy_steps = self.trainer.max_steps / self.env.action_repeat - self.trainer.collect_steps
        return max(policy_steps, 0) * self.trainer.train_ratio / (self.batch_size * self.batch_length)


def register() -> None:
    """Make `schema` known to Hydra, so that conf/config.yaml can begin with it."""
    ConfigStore.instance().store(name="schema", node=Config)


def parse(cfg: DictConfig) -> Config:
    """The composed YAML as dataclasses, complete and checked; a ValueError names the first key that is not.

    Merged once more into the schema, which refuses what `+key=value` added and restores what `~key` took away.
    """
    merged = OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.to_container(cfg))
    for key, value in flat(cast(dict[str, Any], OmegaConf.to_container(merged))).items():
        if value in (MISSING, ""):
            raise ValueError(f"{key} has no value; give {key}=... on the command line or in a YAML file.")
    config = OmegaConf.to_object(merged)
    assert isinstance(config, Config), type(config)
    check_bounds(config)
    _check_network(config)
    _check_lengths(config)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """The plain dictionary that is saved beside a run and inside a checkpoint."""
    return asdict(config)


def from_dict(values: dict[str, Any]) -> Config:
    """The inverse of to_dict; keys that are absent take their default."""
    try:
        return parse(OmegaConf.create(values))
    except OmegaConfBaseException as error:
        raise ValueError(f"The saved config does not fit this version: {str(error).splitlines()[0]}.") from error


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted keys."""
    pairs: dict[str, Any] = {}
    for key, value in values.items():
        pairs.update(flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value})
    return pairs


def _check_network(config: Config) -> None:
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
    if config.env.uses_pixels:
        _check_image_network(model, config.env.size)


def _check_image_network(model: ModelConfig, size: int) -> None:
    rssm, encoder, decoder = model.rssm, model.encoder, model.decoder
    for name, part in (("encoder", encoder), ("decoder", decoder)):
        if part.strided and part.kernel < 3:
            raise ValueError(f"model.{name}.kernel={part.kernel} must be at least 3 with model.{name}.strided=true.")
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
    for name, mults in (("encoder", encoder.mults), ("decoder", decoder.mults)):
        factor = 2 ** len(mults)
        if size % factor:
            raise ValueError(
                f"env.size={size} must be a multiple of {factor}, since model.{name}.mults has {len(mults)} "
                f"stages of factor 2; try {nearest_multiple(size, factor)}."
            )


def _check_lengths(config: Config) -> None:
    last = config.model.imagination.last
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

"""Every hyperparameter, one dataclass per block. YAML composes them, these classes check spelling, types and ranges.

A count that people write as 1e6 is typed `int | float` and becomes an int: a plain int field refuses 1e6.
This module imports no torch, so that `--help` and `--cfg job` answer at once.
"""

from __future__ import annotations

import math
import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import asdict, dataclass, field, fields, make_dataclass
from typing import Any, NamedTuple, cast

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dreamer.bounds import KEYWORDS, bounded, check_bounds, leaves, nearest_multiple, one_of, typed, whole


class Suite(NamedTuple):
    """A kind of environment: the words of env.obs that it takes, its keys among those that not every kind has, and
    the one of these that must be given."""

    obs: tuple[str, ...]
    keys: tuple[str, ...]
    needs: str = ""


SUITES = {
    "dmc": Suite(("vision", "proprio", "both"), ("camera", "render")),
    "dummy": Suite(("vision", "proprio", "both"), ("kwargs",)),
    "gymnasium": Suite(("auto", "vision", "proprio", "both"), ("id", "import", "kwargs"), needs="id"),
    "atari": Suite(("vision",), ("game", "kwargs"), needs="game"),
    "crafter": Suite(("vision",), ("kwargs",)),
    "custom": Suite(("auto", "vision", "proprio", "both"), ("class", "import", "kwargs"), needs="class"),
}
SUITE_KEYS = {key for suite in SUITES.values() for key in suite.keys}


@dataclass
class EnvConfig:
    """Which task, seen how. Keys of SUITE_KEYS stay at their default where the suite has no use for them."""

    suite: str = MISSING  # one of SUITES
    name: str = MISSING  # of the task, in directories and reports
    obs: str = one_of("vision", "proprio", "both", "auto")
    action_repeat: int = bounded(2, low=1)  # simulator control steps per policy step
    max_reward: float | None = bounded(None, above=0)  # the most that an environment step can pay; null: not known
    size: int | None = bounded(64, low=1)  # pixels, height and width; null: as the environment has them
    camera: int = bounded(0, low=-1)  # -1: the free camera
    render: str = one_of("near", "reference", "lossless", "near2", "fast")  # how pictures are drawn: docs/rendering.md
    id: str | None = None  # of gymnasium's registry
    game: str | None = None  # as ale_py calls its file
    class_: str | None = None  # typed env.class: path.to.Class
    import_: str | None = None  # typed env.import: a module of the user's, imported first
    kwargs: dict[str, Any] = field(default_factory=dict)  # for whatever makes the environment
    num_envs: int = bounded(1, low=1)
    workers: str = one_of("serial", "process")  # environments step in turn | at once, each in a process of its own

    @property
    def uses_pixels(self) -> bool:
        """Whether pictures are certain; with obs "auto" the environment decides."""
        return self.obs in ("vision", "both")

    @property
    def pixels(self) -> int:
        """Height and width where nothing else decides them."""
        return self.size or 64


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
    gradient: str = one_of("reinforce", "dynamics")  # of continuous actions: the paper's | through the world model
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
    rec_vector: float | None = bounded(None, low=0)  # keys that are no images; null: the same as rec
    reward: float = bounded(1.0, low=0)
    cont: float = bounded(1.0, low=0)
    dyn: float = bounded(1.0, low=0)
    rep: float = bounded(0.1, low=0)
    actor: float = bounded(1.0, low=0)
    critic: float = bounded(1.0, low=0)
    replay_value: float = bounded(0.3, low=0)


LOSS_NAMES = frozenset({"total", *(item.name for item in fields(LossScales))})
"""Taken: an observation, whose loss is logged under its key, cannot be called like one of these."""


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
    standardize_vectors: bool = False  # by mean and standard deviation of the rows before the first update
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
    train_ratio: float = bounded(512.0, above=0)  # replayed time steps per policy step
    early_ratio: float | None = bounded(None, above=0)  # the most during the first early_steps; null: train_ratio
    early_steps: int | float = bounded(0, low=0, is_whole=True)  # policy steps
    collect_steps: int | float = bounded(1024, low=0, is_whole=True)  # random policy steps before the first update
    eval_every: int | float = bounded(2e4, low=0, is_whole=True)  # environment steps; 0 never
    eval_episodes: int = bounded(3, low=1)
    eval_length: int = bounded(
        27_000, low=1
    )  # policy steps after which an evaluation episode is cut off; Atari's limit
    video_every: int | float = bounded(2e4, low=0, is_whole=True)  # between open-loop videos; 0 never
    log_every: int | float = bounded(1e3, low=1, is_whole=True)  # environment steps between two rows of scalars
    checkpoint_minutes: float = bounded(5.0, above=0)
    device: str = one_of("auto", "cpu", "cuda", "mps")
    precision: str = one_of("auto", "float32", "bfloat16")
    cuda_graphs: bool = True  # on a CUDA device: updates and policy steps recorded once and replayed
    compile: str = one_of("auto", "on", "off")  # torch.compile for the updates; auto: in runs long enough to gain
    threads: int = bounded(0, low=0)  # CPU threads of an update; 0: the cores, or OMP_NUM_THREADS if fewer
    overlap: bool = False  # environments step in a thread beside the updates; pays with more than two cores or a GPU
    profile: bool = False  # write a trace of a few updates into the run directory

    def __post_init__(self) -> None:
        self.max_steps = whole(self.max_steps)
        self.collect_steps = whole(self.collect_steps)
        self.early_steps = whole(self.early_steps)
        self.eval_every = whole(self.eval_every)
        self.video_every = whole(self.video_every)
        self.log_every = whole(self.log_every)

    @property
    def first_ratio(self) -> float:
        """The train ratio of the first `early_steps` policy steps."""
        return min(self.early_ratio or self.train_ratio, self.train_ratio)


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
        trainer = self.trainer
        steps = max(trainer.max_steps / self.env.action_repeat - trainer.collect_steps, 0)
        early = min(steps, max(trainer.early_steps - trainer.collect_steps, 0))
        rows = early * trainer.first_ratio + (steps - early) * trainer.train_ratio
        return rows / (self.batch_size * self.batch_length)


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
    _check_suite(config.env)
    _check_network(config)
    _check_lengths(config)
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


def _check_suite(env: EnvConfig) -> None:
    """Whether the keys fit the kind of environment."""
    if env.suite not in SUITES:
        raise ValueError(f"env.suite={env.suite} must be {', '.join(list(SUITES)[:-1])} or {list(SUITES)[-1]}.")
    suite = SUITES[env.suite]
    for key, item, value in leaves(env):
        default = {} if item.default is NO_DEFAULT else item.default
        if key in SUITE_KEYS.difference(suite.keys) and value != default:
            others = " or ".join(name for name, other in SUITES.items() if key in other.keys)
            raise ValueError(f"env.{key}={value} means nothing with env.suite={env.suite}; it belongs to {others}.")
        if key == suite.needs and value is None:
            raise ValueError(f"env.{key} has no value; give env.{key}=... on the command line or in a YAML file.")
    if env.obs not in suite.obs:
        raise ValueError(f"env.obs={env.obs} must be {' or '.join(suite.obs)} with env.suite={env.suite}.")


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
    for part, mults in (("encoder", encoder.mults), ("decoder", decoder.mults)):
        factor = 2 ** len(mults)
        for size in sizes:
            if size % factor:
                raise ValueError(
                    f"{name} must be a multiple of {factor}, since model.{part}.mults has {len(mults)} "
                    f"stages of factor 2; try env.size={nearest_multiple(size, factor)}."
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

"""Every hyperparameter, one dataclass per block. YAML composes them, these classes check spelling, types and ranges.

A count that people write as 1e6 is typed `int | float` and becomes an int: a plain int field refuses 1e6.
This module imports no torch, so that `--help` and `--cfg job` answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

from omegaconf import MISSING

from dreamer.config.bounds import bounded, one_of, whole


class Suite(NamedTuple):
    """A kind of environment: the words of env.obs that it takes, its keys among those that not every kind has, and
    the one of these that must be given."""

    obs: tuple[str, ...]
    keys: tuple[str, ...]
    needs: str = ""


SUITES = {
    "dmc": Suite(("vision", "proprio", "both"), ("camera", "render")),
    "dummy": Suite(("vision", "proprio", "both"), ("kwargs",)),
    "gymnasium": Suite(("auto", "vision", "proprio", "both"), ("id", "import", "kwargs", "leave_out"), needs="id"),
    "atari": Suite(("vision",), ("game", "kwargs"), needs="game"),
    "crafter": Suite(("vision",), ("kwargs",)),
    "custom": Suite(("auto", "vision", "proprio", "both"), ("class", "import", "kwargs", "leave_out"), needs="class"),
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
    leave_out: list[str] = field(default_factory=list)  # observations, by the names that they have here
    num_envs: int = bounded(1, low=1)
    workers: str = one_of("serial", "process", "ray")  # they step in turn | at once, in processes | on a Ray cluster
    ray_address: str | None = None  # HOST:PORT | auto | local; null: RAY_ADDRESS, or else local
    ray_cpus: float = bounded(1.0, low=0)  # cores that each asks its node for
    on_fault: str = one_of("stop", "truncate")  # what a row that nothing can learn from ends: the run | its episode
    step_timeout: float = bounded(300.0, above=0)  # seconds that a step or reset may take

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
    dyn_layers: int = bounded(1, low=1, high=64)
    obs_layers: int = bounded(1, low=1, high=64)
    img_layers: int = bounded(2, low=1, high=64)
    unimix: float = bounded(0.01, low=0, below=1)


@dataclass
class EncoderConfig:
    layers: int = bounded(3, low=1, high=64)  # of the vector network
    kernel: int = bounded(5, low=1, is_odd=True)
    mults: list[int] = bounded([2, 3, 4, 4], low=1)  # channels of each stage, times model.depth
    strided: bool = False  # stride-2 convolutions instead of convolution and 2x2 max-pool
    patch: int = bounded(0, low=0)  # above 0: linear layers over squares of so many pixels, then of 2, no convolutions


@dataclass
class DecoderConfig:
    layers: int = bounded(3, low=1, high=64)
    kernel: int = bounded(5, low=1, is_odd=True)
    mults: list[int] = bounded([2, 3, 4, 4], low=1)
    strided: bool = False  # transposed convolutions instead of nearest upsampling and convolution
    every: int = bounded(1, low=1)  # reconstruct images of one in so many time steps, from a random first one
    blocks: int = bounded(8, low=1)  # groups of the block-linear layer from deter


@dataclass
class HeadConfig:
    layers: int = bounded(1, low=1, high=64)
    bins: int = bounded(255, low=3, is_odd=True)  # odd: the middle one is 0
    outscale: float = bounded(0.0, low=0)  # scale of the output layer's initial weights


@dataclass
class ContHeadConfig:
    layers: int = bounded(1, low=1, high=64)
    outscale: float = bounded(1.0, low=0)


@dataclass
class ActorConfig:
    layers: int = bounded(3, low=1, high=64)
    dist: str = one_of("normal", "tanh_normal")  # continuous actions: the paper's | older agents'
    gradient: str = one_of("reinforce", "dynamics")  # of continuous actions: the paper's | through the world model
    min_std: float = bounded(0.1, above=0)
    max_std: float = bounded(1.0, above=0)
    outscale: float = bounded(0.01, low=0)
    unimix: float = bounded(0.0, low=0, below=1)  # discrete actions: 0 is the authors' code, 0.01 the paper's text
    entropy: float = bounded(3e-4, low=0)


@dataclass
class CriticConfig:
    layers: int = bounded(3, low=1, high=64)
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
    share: float = bounded(0.0, low=0)  # nor below this share of the returns' own size


def share_of_return(share: float, max_reward: float | None, action_repeat: int, discount_horizon: float) -> float:
    """`share` of the largest discounted return that a task can give, and at least 1; 1 where `max_reward` is null.

    1 is what the paper takes for every task as the least scale of returns (`model.return_norm.limit`).
    """
    return max(1.0, share * (max_reward or 0) * action_repeat * discount_horizon)


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
    disagreement: float = bounded(1.0, low=0)  # of explore=disagreement


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


EXPLORE_KEYS = {"policy": (), "noise": ("steps", "noise"), "disagreement": ("steps", "weight", "heads")}
"""The ways to explore, and the keys that each has a use for."""


@dataclass
class ExploreConfig:
    """What makes the agent try more than its policy does; each way is a file in dreamer/behavior/explore."""

    name: str = one_of("policy", "noise", "disagreement")
    steps: int | float = bounded(50_000, low=1, is_whole=True)  # policy steps over which it fades to nothing
    noise: float = bounded(0.3, above=0, high=1)  # standard deviation of the noise at first; share of random choices
    weight: float = bounded(0.5, above=0)  # mean bonus of a policy step at first, in units of the reward
    heads: int = bounded(5, low=2, high=64)  # networks that may disagree

    def __post_init__(self) -> None:
        self.steps = whole(self.steps)

    def strength(self, policy_steps: int) -> float:
        """From 1 at the start to 0 after `steps` policy steps."""
        return max(0.0, 1 - policy_steps / self.steps)


PARENT = "DREAMER_PARENT"
"""Environment variable of the processes that a run of several devices starts: which process has started them."""


@dataclass
class TrainerConfig:
    max_steps: int | float = bounded(1e6, low=1, is_whole=True)  # environment steps: control steps, repeat included
    train_ratio: float = bounded(512.0, above=0)  # replayed time steps per policy step
    early_ratio: float | None = bounded(None, above=0)  # the most during the first early_steps; null: train_ratio
    early_steps: int | float = bounded(25_000, low=0, is_whole=True)  # policy steps
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
    devices: int = bounded(1, low=1)  # processes on each machine, one a device, which share batch and environments
    num_nodes: int = bounded(1, low=1)  # machines
    strategy: str = one_of("auto", "ddp")  # both: each process has the whole agent, and gradients are averaged
    rank_timeout: float = bounded(900.0, above=0)  # seconds that the others wait for a process that does not answer
    precision: str = one_of("auto", "float32", "bfloat16")
    cuda_graphs: bool = True  # on a CUDA device: updates and policy steps recorded once and replayed
    compile: str = one_of("auto", "on", "off")  # torch.compile for the updates; auto: in runs long enough to gain
    threads: int = bounded(0, low=0)  # CPU threads of an update; 0: the cores, at most 8 or OMP_NUM_THREADS
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
    def world_size(self) -> int:
        """Processes of the run."""
        return self.devices * self.num_nodes

    def ratio_at(self, policy_steps: int) -> float:
        """The train ratio after so many policy steps."""
        if self.early_ratio is None or policy_steps >= self.early_steps:
            return self.train_ratio
        return min(self.early_ratio, self.train_ratio)


@dataclass
class ReplayConfig:
    capacity: int | float = bounded(250_000, low=1, is_whole=True)  # rows of all environments
    storage: str = one_of("auto", "ram", "disk")
    online: bool = True  # train on every fresh sequence once, as soon as it is complete

    def __post_init__(self) -> None:
        self.capacity = whole(self.capacity)


@dataclass
class LoggerConfig:
    """Keys of LOGGER_KEYS stay at their default where the logger has no use for them."""

    name: str = one_of("tensorboard", "csv", "wandb", "mlflow")
    project: str = "dreamer"  # of Weights & Biases; of MLflow the experiment
    entity: str | None = None  # user or team of Weights & Biases; null: that of the account
    offline: bool = False  # Weights & Biases: files in run_dir alone, which `wandb sync` sends later
    tracking_uri: str | None = None  # of MLflow; null: MLFLOW_TRACKING_URI, or else files in run_dir


LOGGER_KEYS = {
    "tensorboard": (),
    "csv": (),
    "wandb": ("project", "entity", "offline"),
    "mlflow": ("project", "tracking_uri"),
}
"""The loggers, and the keys that each has a use for."""


@dataclass
class Config:
    env: EnvConfig = field(default_factory=EnvConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    explore: ExploreConfig = field(default_factory=ExploreConfig)
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
        rows = early * trainer.ratio_at(0) + (steps - early) * trainer.train_ratio
        return rows / (self.batch_size * self.batch_length)

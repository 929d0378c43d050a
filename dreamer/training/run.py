"""From a config to a run: check and build everything (`prepare`), then train (`Training.fit`)."""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch._dynamo.exc import TorchDynamoException

from dreamer import ranks
from dreamer.agent import Agent
from dreamer.config.checks import check_picture_networks
from dreamer.config.file import CONFIG_FILE, format_config
from dreamer.config.schema import Config
from dreamer.data.collector import Collector
from dreamer.data.dataset import ReplayDataset
from dreamer.data.replay import Replay
from dreamer.data.schedule import TrainRatio
from dreamer.data.storage import choose_storage, columns_of, nbytes_of
from dreamer.envs.make import check_env, check_workers, make_env, make_envs
from dreamer.errors import RunStopped
from dreamer.ranks import RankLost
from dreamer.saved.agents import CHECKPOINT_FILE, load_weights
from dreamer.training import callbacks
from dreamer.training.display.banner import describe_run, fitted
from dreamer.training.display.loggers import build_logger, check_logger, end_logger
from dreamer.training.display.next_commands import next_commands
from dreamer.training.display.run_log import RunLog
from dreamer.training.module import DreamerModule
from dreamer.training.player import Player
from dreamer.training.ranks.group import Group, check_alike, join, lost_ranks, place, together
from dreamer.training.ranks.strategy import processes
from dreamer.training.saving import checkpoint
from dreamer.training.saving.checkpoint_io import CheckpointFile
from dreamer.training.saving.disk import full_disk, write_whole, writing
from dreamer.training.saving.lock import RunLock
from dreamer.training.saving.rank_states import num_ranks, replay_directory, restore_dataset
from dreamer.training.saving.sessions import add_session
from dreamer.training.speed.compiling import choose_compile, compile_parts, record_graphs, uses_graphs
from dreamer.training.speed.device import choose_device, choose_precision, device_name
from dreamer.training.speed.malloc import keep_freed_memory
from dreamer.training.speed.threads import choose_threads, use_threads
from dreamer.training.stopping import GracefulStop, Outside, StoppedCompiling
from dreamer.types import Space


@dataclass
class Training:
    """A run, ready to start. `resume` is the checkpoint file it goes on from, if any; `lock` is held until its end.

    `words`: what the user typed after train.py, for the commands that are named at the end; None: none are.
    `group`: its place among the processes of the run.
    `outside`: what the run is part of and may be ended by. `pruned`: once it has ended so, why.
    """

    config: Config
    run_dir: Path
    agent: Agent
    dataset: ReplayDataset
    device: torch.device
    resume: Path | None
    compile: bool
    lock: RunLock | None = field(default=None, kw_only=True)
    words: list[str] | None = field(default=None, kw_only=True)
    group: Group = field(default_factory=Group, kw_only=True)
    outside: Outside | None = field(default=None, kw_only=True)
    pruned: str | None = field(default=None, kw_only=True)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that speaks and writes for all."""
        return ranks.rank() == 0

    def claim(self) -> None:
        """Make run_dir if it is new, and hold it; ValueError where another process was faster."""
        if self.lock is not None or ranks.rank() > 0:
            return
        with writing(self.run_dir):
            self.run_dir.mkdir(parents=True, exist_ok=True)
        self.lock = RunLock(self.run_dir)
        if checkpoint.is_run(self.run_dir):
            self.release()
            self.group.leave()
            raise ValueError(
                f"run_dir={self.run_dir} was new, and now holds a run of another process. Nothing was changed; "
                "give the same command again to go on with that one, or choose another run_dir."
            )

    def release(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def fit(self) -> None:
        """Train until max_steps or a signal. Ends the process with 128 + signal number where a signal stopped it.

        RunStopped where an environment ends it, and all is saved as of before that; or where the disk is full, or
        another rank is lost.
        """
        try:
            self.claim()
            self.train()
        except RankLost as lost:
            raise RunStopped(
                f"{lost}{lost_ranks(self.group, lost)}, says {place()}; {checkpoint.describe_saved(self.run_dir)}. "
                f"To go on: the same command with run_dir={self.run_dir}"
            ) from lost
        except RunStopped as stopped:
            if ranks.rank() > 0:
                sys.exit(1)  # rank 0 says why
            raise RunStopped(
                f"{stopped}\nThe run is saved as of before that, at environment step "
                f"{self.dataset.collector.env_steps:,}. To go on: the same command with run_dir={self.run_dir}"
            ) from stopped
        except Exception as error:
            full = full_disk(error)
            if full is None:
                raise
            raise RunStopped(
                f"the disk is full: {full}; {checkpoint.describe_saved(self.run_dir)}. Free some space and give the "
                "same command to go on."
            ) from error
        finally:
            self.release()
            self.group.leave()

    def train(self) -> None:
        """What `fit` does once run_dir is held."""
        run_dir, config = self.run_dir, self.config
        if ranks.rank() == 0:
            checkpoint.tidy(run_dir, self.resume)
            write_whole(run_dir / CONFIG_FILE, format_config(config))
            add_session(run_dir, self.dataset.collector.env_steps, device_name(self.device), torch.get_num_threads())
        self.check_shared()
        stop = GracefulStop(self.dataset, run_dir, config.env.step_timeout, self.outside)
        log = RunLog(config, self.dataset, run_dir)
        resumed_at = self.dataset.collector.env_steps if self.resume else None
        logger = build_logger(config.logger, run_dir, resumed_at) if self.is_first else DummyLogger()
        trainer = L.Trainer(
            accelerator={"mps": "mps", "cuda": "gpu"}.get(self.device.type, "cpu"),
            **processes(config.trainer),
            max_epochs=-1,
            logger=logger,
            callbacks=self.build_callbacks(log, stop),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=run_dir,
            # Under SLURM, Lightning would save and load files of its own.
            plugins=[self.group.environment or LightningEnvironment(), CheckpointFile()],
            log_every_n_steps=1,  # RunLog logs in environment steps; Lightning would only warn of short runs
        )
        batches = checkpoint.Batches(self.dataset)
        module = DreamerModule(self.agent)
        if self.compile:
            compile_parts(module)
        if uses_graphs(config.trainer.cuda_graphs, self.device):
            record_graphs(module)
        try:
            trainer.fit(module, batches, ckpt_path=self.resume, weights_only=True)
        except (StoppedCompiling, TorchDynamoException):  # Ctrl-C ends the C++ compiler too, and torch complains
            if stop.received is None:
                raise
            if not ranks.is_alone():
                stop.end_at_once(stop.received)
            print("Stopped while compiling: what came after the last checkpoint, if there is one, will be done again.")
        finally:
            stop.restore()
            self.dataset.collector.close()
            end_logger(logger)
        stop.received = max(ranks.everyones(stop.received or 0)) or None
        self.pruned = stop.pruned if stop.received is None else None
        self.tell_end(log.env_steps, stop.received)
        if stop.received is not None:
            stop.hand_on()
            sys.exit(128 + stop.received)

    def tell_end(self, env_steps: int, received: int | None) -> None:
        """How the run has ended, and what one may do next. `received`: the signal that stopped it."""
        if received is not None:
            print(f"Stopped at environment step {env_steps:,}. To go on: the same command with run_dir={self.run_dir}")
            if self.outside is not None:
                self.outside.stopped(env_steps)
        elif self.pruned is not None:
            print(f"Pruned at environment step {env_steps:,}: {self.pruned}")
        else:
            print(f"Finished at environment step {env_steps:,}: {self.run_dir}")
        if self.words is not None and (self.run_dir / CHECKPOINT_FILE).is_file():
            is_finished = env_steps >= self.config.trainer.max_steps
            print(next_commands(self.config, self.words, is_finished), flush=True)

    def check_shared(self) -> None:
        """RunStopped where a rank does not see the run_dir that rank 0 has made."""
        ranks.wait_for_all()
        has_file = (self.run_dir / CONFIG_FILE).is_file()
        blind = [where for sees, where in ranks.everyones((has_file, place())) if not sees]
        if blind:
            raise RunStopped(f"run_dir={self.run_dir} must lie where all machines see it; {blind[0]} does not.")

    def build_callbacks(self, log: RunLog, stop: GracefulStop) -> list[Callback]:
        """The callbacks in the order in which they act. Around an update the order of events is:

        1. ReplayDataset takes policy steps (Collector: environments, Player, Replay.add) until an update is due;
        2. ReplayDataset draws a batch, or with `trainer.overlap` does so before the steps of 1 are stored;
        3. FitStandardize, before the first update alone, takes the spread of vectors from replay; FadeExploration;
        4. DreamerModule.training_step: losses, one backward pass, one step of LaProp, the slow critic;
        5. RunLog takes the time and logs what is due, against environment steps;
        6. LatentWriteBack stores the refreshed latents in replay;
        7. Evaluate and OpenLoopVideo, each when its number of environment steps is passed; Profile;
        8. Checkpoints, when its minutes are over and at the end: replay, then last.ckpt;
        9. GracefulStop, which after a signal has ended the dataset, so that nothing follows.
        """
        config, dataset, run_dir = self.config, self.dataset, self.run_dir
        parts: list[Callback] = [
            callbacks.FitStandardize(dataset, self.agent),
            callbacks.FadeExploration(dataset, self.agent),
            log,  # before the others, since it measures how long the update itself took
            callbacks.LatentWriteBack(dataset),
            callbacks.Evaluate(config, dataset, self.agent, lambda: make_env(config.env), log, stop),
            callbacks.OpenLoopVideo(config, dataset, self.agent, run_dir),
        ]
        if config.trainer.profile and ranks.rank() == 0:
            parts.append(callbacks.Profile(run_dir))
        return [*parts, callbacks.Checkpoints(config, dataset, self.agent, run_dir, stop), stop]


def prepare(config: Config, words: list[str] | None = None) -> Training:
    """Check what the user asked for, say what will happen, build it. ValueError before any directory exists.

    A run_dir that is there is held from before it is looked at, by the lock of what is returned. With several ranks
    their processes are started here, where nobody else has; `words` are what the user typed.
    """
    quiet_libraries()
    check_env(config.env)
    check_workers(config.env)
    checkpoint.check_run_dir(config)
    group, lock = join(config.trainer, words), None
    try:
        config = replace(config, run_dir=ranks.of_first(config.run_dir))
        run_dir = Path(config.run_dir)
        with together():
            if ranks.rank() == 0:
                check_logger(config.logger)
                lock = RunLock(run_dir) if run_dir.is_dir() else None
        with together():
            training, state = build(config, group)
        with together():
            check_alike(config, None if state is None else counters_of(state))
        ranks.copy_of_first_(list(training.agent.state_dict().values()))
        if state is not None:
            go_on(training, state)
    except BaseException as error:
        if lock is not None:
            lock.release()
        who = lost_ranks(group, error)
        group.leave()
        if isinstance(error, RankLost):
            raise ValueError(f"{error}{who}; nothing was changed.") from error
        raise
    training.lock, training.words, training.group = lock, words, group
    return training


def build(config: Config, group: Group) -> tuple[Training, dict[str, Any] | None]:
    """All parts of a run, with several ranks this one's share of them, and the checkpoint that it goes on from.

    Nothing is exchanged between the ranks in here, so that one that refuses keeps none waiting.
    """
    size, own_envs = ranks.world_size(), replace(config.env, num_envs=config.env.num_envs // ranks.world_size())
    batch_size, capacity = config.batch_size // size, int(config.replay.capacity) // size
    device = choose_device(config.trainer.device, group.local_rank)
    compile = choose_compile(config.trainer.compile, config.num_updates)
    resume = checkpoint.find_resume(config)
    run_dir = Path(config.run_dir)
    L.seed_everything(config.seed, verbose=False)
    keep_freed_memory()
    overlap = config.trainer.overlap
    check_overlap(config, sys.platform)
    use_threads(choose_threads(config.trainer.threads, overlap, config.trainer.devices))

    envs = make_envs(own_envs)
    obs_space, action_space, rssm = envs.obs_space, envs.action_space, config.model.rssm
    columns = columns_of(obs_space, action_space, rssm.deter, rssm.stoch, rssm.classes)
    directory = replay_directory(run_dir, ranks.rank(), size)
    storage = choose_storage(config.replay.storage, columns, capacity * config.trainer.devices, directory)
    agent = build_agent(config, obs_space, action_space, device)
    if ranks.rank() > 0:  # its weights are rank 0's, its noise is not
        torch.manual_seed(ranks.seed_of(config.seed))
    if resume:
        load_weights(agent, resume[1], resume[0])
        checkpoint.check_optimizer_fits(agent, resume[1], resume[0])
    replay = Replay(
        columns, capacity, config.batch_length + 1, envs.num_envs, storage, directory, config.seed, config.replay.online
    )
    player = Player(agent, config.seed, own_weights=overlap)
    collector = Collector(
        envs, player, replay, int(config.trainer.collect_steps), config.seed, overlap,
        cuts_faults=config.env.on_fault == "truncate",
    )  # fmt: skip
    trainer, rows = config.trainer, config.batch_size * config.batch_length
    schedule = TrainRatio(trainer.train_ratio, rows, trainer.early_ratio, int(trainer.early_steps))
    dataset = ReplayDataset(collector, replay, batch_size, schedule, int(trainer.max_steps))
    nbytes = nbytes_of(columns, int(config.replay.capacity))
    print(fitted(describe_run(config, agent, torch.get_num_threads(), compile, nbytes, storage)), flush=True)
    path, state = resume or (None, None)
    return Training(config, run_dir, agent, dataset, device, path, compile), state


def counters_of(state: dict[str, Any]) -> tuple[int, int]:
    """Updates and environment steps of a checkpoint."""
    return state["dreamer"]["updates"], state["dreamer"]["env_steps"]


def go_on(training: Training, state: dict[str, Any]) -> None:
    """Bring replay, environments and counters to where the checkpoint has them."""
    assert training.resume is not None
    before, size = num_ranks(state), ranks.world_size()
    for turn in range(1 if size == before else size):
        with together():
            if size == before or turn == ranks.rank():
                restore_dataset(training.dataset, state, training.resume)
    training.dataset.collector.add_up()
    if size != before:
        print(
            f"ranks        {size} for {before}: environments and their rows are shared out anew, so what is drawn from "
            "here on differs from what would have been.",
            flush=True,
        )
    updates, done = counters_of(state)
    print(f"resume       {training.resume} at environment step {done:,}, update {updates:,}", flush=True)


def check_overlap(config: Config, system: str) -> None:
    """ValueError where trainer.overlap would draw in a thread that may not: macOS has windows in the main one alone."""
    if system == "darwin" and config.trainer.overlap and config.env.uses_pixels and config.env.workers == "serial":
        raise ValueError(
            "trainer.overlap=true draws pictures in a thread, which macOS refuses; add env.workers=process."
        )


def build_agent(
    config: Config, obs_space: dict[str, Space], action_space: Space, device: torch.device | None = None
) -> Agent:
    """The agent on the device and in the precision that `trainer` asks for; torch's generator decides its weights.

    ValueError where the networks do not fit the pictures: some environments tell their size only once they are made.
    """
    for key, space in obs_space.items():
        if space.is_image:
            height, width, _ = space.shape
            check_picture_networks(config.model, f"{key} of {height} x {width} pixels", height, width)
    device = device or choose_device(config.trainer.device)
    precision = choose_precision(config.trainer.precision, device)
    return Agent(config.model, obs_space, action_space, precision, config.explore).to(device)


def quiet_libraries() -> None:
    """Leave out what other libraries say of themselves; their warnings stay, but for two that help nobody here."""
    for name in ("lightning.pytorch", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning 2.6 calls a name that torch 2.13 renamed.
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    # A machine of a cluster has srun, whether or not a run shall be one of its jobs (ranks/group.py: find_environment).
    warnings.filterwarnings("ignore", message="The `srun` command is available on your system but is not used")

"""A real training run for a short while: how much of the time its updates run, and how fast it goes."""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from dreamer.benchmark.timing import in_fresh_process
from dreamer.config.schema import Config
from dreamer.data.dataset import ReplayDataset
from dreamer.training.display.run_log import RunLog
from dreamer.training.run import Training, prepare
from dreamer.training.speed.compiling import choose_compile, uses_graphs
from dreamer.training.speed.device import synchronize
from dreamer.training.stopping import GracefulStop

WARM_UP = 5  # updates, or two where they are slow; the first compiles, the fourth records a CUDA graph
WARM_UP_SHARE = 0.5  # of the time to measure, from which on they are
CAPACITY = 20_000  # rows at most: a short run fills fewer, and more would only be allocated


def measure_end_to_end(config: Config, seconds: float) -> dict[str, Any]:
    """Trains for `seconds` after a few updates to warm up, in a process and a run directory of its own.

    frames_per_second counts environment steps; cpu_seconds is the CPU time of one. Without evaluations, videos and
    checkpoints, and with as few random steps as a batch needs, since these are not what is measured.
    """
    return in_fresh_process(train_for, config, seconds)


def train_for(config: Config, seconds: float) -> dict[str, Any]:
    trainer = replace(
        config.trainer,
        compile="on" if choose_compile(config.trainer.compile, config.num_updates) else "off",
        max_steps=10**9,
        collect_steps=config.batch_size + config.batch_length,
        eval_every=0,
        video_every=0,
        checkpoint_minutes=1e6,
        profile=False,
    )
    memory = replace(config.replay, capacity=min(int(config.replay.capacity), CAPACITY), storage="ram")
    with tempfile.TemporaryDirectory(prefix="dreamer_benchmark_", ignore_cleanup_errors=True) as directory:
        run_dir = str(Path(directory) / "run")
        # What a run says of itself, and its progress, would only be in the way.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            training = prepare(replace(config, trainer=trainer, replay=memory, run_dir=run_dir))
            watch = Watch(training.dataset, training.device, training.agent.precision, seconds)
            WatchedTraining(**vars(training), watch=watch).fit()
    return watch.entry(training.config)


class Watch(Callback):
    """The time inside training_step, from the end of the warm-up until `seconds` later, when it ends the run."""

    def __init__(self, dataset: ReplayDataset, device: torch.device, precision: str, seconds: float) -> None:
        self.dataset, self.device, self.precision, self.seconds = dataset, device, precision, seconds
        self.updates: list[float] = []
        self.is_counting = False
        self.first_update = 0.0

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.update_began = time.perf_counter()
        self.first_update = self.first_update or self.update_began

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        if self.is_counting:
            self.updates.append(now - self.update_began)
            self.ended, self.ended_cpu = now, time.process_time()
            self.last_steps = self.steps
            if now - self.began >= self.seconds:
                self.dataset.stop()
        elif trainer.global_step >= WARM_UP or self.is_slow(now - self.first_update, trainer.global_step):
            self.is_counting, self.first_steps = True, self.steps
            self.began, self.began_cpu = time.perf_counter(), time.process_time()

    def is_slow(self, seconds: float, updates: int) -> bool:
        """Whether two updates have to do, on a device without CUDA graphs, which begin later."""
        return updates >= 2 and seconds > WARM_UP_SHARE * self.seconds and self.device.type != "cuda"

    @property
    def steps(self) -> tuple[int, int]:
        return self.dataset.collector.env_steps, self.dataset.collector.policy_steps

    def entry(self, config: Config) -> dict[str, Any]:
        wall, cpu = self.ended - self.began, self.ended_cpu - self.began_cpu
        env_steps, policy_steps = (last - first for last, first in zip(self.last_steps, self.first_steps, strict=True))
        return {
            "frames_per_second": env_steps / wall,
            "seconds": wall / env_steps,
            "cpu_seconds": cpu / env_steps,
            "threads": torch.get_num_threads(),
            "update_share": sum(self.updates) / wall,
            "update_seconds": median(self.updates),
            "updates_per_second": len(self.updates) / wall,
            "policy_steps_per_second": policy_steps / wall,
            "busy_cores": cpu / wall,
            "measured_seconds": wall,
            "env": config.env.name,
            "obs": config.env.obs,
            "num_envs": config.env.num_envs,
            "model": config.model.name,
            "batch_size": config.batch_size,
            "batch_length": config.batch_length,
            "precision": self.precision,
            "train_ratio": config.trainer.ratio_at(0),  # it is measured in the first steps
            "render": config.env.render,
            "overlap": config.trainer.overlap,
            "is_compiled": config.trainer.compile == "on",
            "is_recorded": uses_graphs(config.trainer.cuda_graphs, self.device),
        }


@dataclass
class WatchedTraining(Training):
    """A run with a watch, first among the callbacks: it sees an update end before anything else follows."""

    watch: Watch

    def build_callbacks(self, log: RunLog, stop: GracefulStop) -> list[Callback]:
        return [self.watch, *super().build_callbacks(log, stop)]

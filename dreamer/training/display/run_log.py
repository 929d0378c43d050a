"""The numbers of a run as it goes: scalars against environment steps, and returns.csv."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from dreamer import ranks
from dreamer.config.compose import flat, to_dict
from dreamer.config.schema import Config
from dreamer.data.dataset import ReplayDataset
from dreamer.training.display.loggers import log_config
from dreamer.training.display.progress import Bar, Lines, Progress
from dreamer.training.display.speeds import Share, Speed, hours_left
from dreamer.training.display.terminal import Returns
from dreamer.training.saving.disk import writing
from dreamer.training.saving.returns_file import (
    RETURNS_FILE,
    append_return,
    read_lines,
    trim_returns,
)
from dreamer.training.speed.device import synchronize
from dreamer.types import Batch


class Every:
    """True once for every multiple of `interval` that a counter passes; never if interval is 0."""

    def __init__(self, interval: int) -> None:
        self.interval, self.last = interval, 0

    def __call__(self, count: int) -> bool:
        if self.interval == 0 or count // self.interval == self.last // self.interval:
            return False
        self.last = count
        return True


class RunLog(Callback):
    """Scalars against environment steps, returns.csv, and the progress bar (lines on a pipe)."""

    def __init__(self, config: Config, dataset: ReplayDataset, run_dir: Path) -> None:
        self.config, self.dataset, self.run_dir = config, dataset, run_dir
        self.speed = Speed()
        self.is_first = ranks.rank() == 0  # the others count and agree, and write nothing
        self.progress: Progress = Bar(config) if sys.stderr.isatty() and self.is_first else Lines(config)
        self.due = Every(int(config.trainer.log_every))
        self.update_share = Share()
        self.sums: dict[str, Tensor] = {}
        self.num_summed = 0
        self.returns = Returns()
        self.wall_seconds = 0.0  # of all the sessions before this one
        self.started = time.monotonic()
        self.log_metrics: Callable[[dict[str, float], int], None]

    @property
    def seconds(self) -> float:
        """Wall time of the run, over all its sessions."""
        return self.wall_seconds + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"wall_seconds": self.seconds, "last_return": self.returns.last, "due": self.due.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.wall_seconds, self.returns.last = state_dict["wall_seconds"], state_dict["last_return"]
        self.due.last = state_dict.get("due", 0)  # not in checkpoints from before 27 November 2026

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()
        logger = trainer.logger
        assert logger is not None
        log_config(logger, flat(to_dict(self.config)), self.config.logger, self.run_dir)

        def log_metrics(values: dict[str, float], env_step: int) -> None:
            with writing(Path(logger.log_dir or self.run_dir) / f"the log of logger={self.config.logger.name}"):
                logger.log_metrics(values, step=env_step)

        self.log_metrics = log_metrics
        self.dataset.after_step = self.on_policy_step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.updates = trainer.global_step  # not known before
        path, last = self.run_dir / RETURNS_FILE, self.returns.last
        if not self.is_first:
            return
        trim_returns(path, self.env_steps)
        for line in read_lines(path) if path.exists() else []:
            if line.row:
                self.returns.add(line.row.ret)
        self.returns.last = last

    @property
    def env_steps(self) -> int:
        return self.dataset.collector.env_steps

    def on_policy_step(self) -> None:
        """Called by the dataset when policy steps were counted, random ones before the first update included."""
        for done in self.dataset.collector.drain_episodes():
            self.returns.add(done.ret)
            self.log_metrics({"episode/return": done.ret, "episode/length": float(done.length)}, done.env_step)
            append_return(self.run_dir / RETURNS_FILE, done.env_step, self.seconds, done.ret, done.length)
        self.speed.mark(self.env_steps, self.updates)
        self.progress.show(self.env_steps, self.updates, self.speed, self.returns)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.update_share.begin()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        synchronize(pl_module.device)  # a GPU has only queued the update so far
        self.update_share.end()
        if self.updates == 0:
            self.speed.forget()  # collecting with random actions was faster than what follows
        self.updates = trainer.global_step
        for name, value in outputs["metrics"].items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.num_summed += 1
        if self.due(self.env_steps):
            self.log_scalars(batch)

    def log_scalars(self, batch: Batch | None = None) -> None:
        """Means since the last row and over the ranks, counters and speeds."""
        means = ranks.means([float(total) / self.num_summed for total in self.sums.values()])
        values = dict(zip(self.sums, means, strict=True))
        check_finite(values, self.updates, batch)
        collector = self.dataset.collector
        rows = self.config.batch_size * self.config.batch_length
        values["replay/size"] = float(ranks.totals(self.dataset.replay.num_rows)[0])
        values["replay/ratio"] = self.updates * rows / max(collector.policy_steps - collector.collect_steps, 1)
        values["train/updates"] = float(self.updates)
        values["env/faults"] = float(collector.num_faults)
        values["time/wall_hours"] = self.seconds / 3600
        values["time/update_share"] = self.speed.update_share = self.update_share.take()
        if self.speed.env_steps > 0:
            values["time/env_steps_per_second"] = self.speed.env_steps
            values["time/updates_per_second"] = self.speed.updates
            values["time/hours_left"] = hours_left(self.config, self.env_steps, self.speed)
        self.log_metrics(values, self.env_steps)
        self.sums, self.num_summed = {}, 0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.num_summed:
            self.log_scalars()
        if isinstance(trainer.logger, TensorBoardLogger):  # for its table of runs
            trainer.logger.log_hyperparams(trainer.logger.hparams, {"hp/last_return": self.returns.last or 0.0})
        self.progress.close(self.env_steps, self.updates, self.returns)


def check_finite(metrics: Mapping[str, float | Tensor], update: int, batch: Batch | None = None) -> None:
    """FloatingPointError where the losses or their gradients have become infinite, or no numbers at all.

    It blames the batch of the update, where that holds what came from an environment and is no number.
    """
    for name in ("loss/total", "grad/norm"):
        value = float(metrics[name])
        if not math.isfinite(value):
            cause = None if batch is None else spoiled_column(batch)
            if cause is not None:
                raise FloatingPointError(
                    f"{name} is {value} at update {update:,}, since {cause} of its batch holds values that are not "
                    "finite: the environment gave them, or the replay files are damaged. The last checkpoint is from "
                    "before."
                )
            raise FloatingPointError(f"{name} is {value} at update {update:,}: {DIVERGED}")


DIVERGED = (
    "the run has diverged. The last checkpoint is from before; lower rates (model.optim.lr) in a new run_dir may keep "
    "it from happening."
)


def spoiled_column(batch: Batch) -> str | None:
    """The first column of a batch that came from the environment and is not finite; the rest the model has computed."""
    columns = {**{f"obs.{key}": value for key, value in batch.obs.items()}, "reward": batch.reward}
    return next((key for key, value in columns.items() if not value.isfinite().all()), None)

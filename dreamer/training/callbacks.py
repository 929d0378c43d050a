"""What happens around the updates: latents back to replay, scalars, evaluation, videos, checkpoints, stopping."""

from __future__ import annotations

import csv
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch import Tensor
from tqdm import tqdm

from dreamer.agent import Agent
from dreamer.config import Config, to_dict
from dreamer.data.dataset import ReplayDataset
from dreamer.envs.spec import Env
from dreamer.identity import digest
from dreamer.training.checkpoint import random_state, save_checkpoint, set_random_state
from dreamer.training.evaluation import evaluate, forked_random
from dreamer.training.report import Speed, duration, hours_left, open_loop_frames, write_gif
from dreamer.types import Batch

RETURNS_FILE = "returns.csv"
CONTEXT = 5  # frames that an open-loop video sees before it dreams on, as in the paper


class Every:
    """True once for every multiple of `interval` that a counter passes; never if interval is 0."""

    def __init__(self, interval: int) -> None:
        self.interval, self.last = interval, 0

    def __call__(self, count: int) -> bool:
        if self.interval == 0 or count // self.interval == self.last // self.interval:
            return False
        self.last = count
        return True


class LatentWriteBack(Callback):
    """Refreshes the stored latents of the rows that were trained on, before the next batch is drawn."""

    def __init__(self, dataset: ReplayDataset) -> None:
        self.dataset = dataset

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.dataset.write_back(batch.row_ids, outputs["deter"], outputs["stoch"])


class RunLog(Callback):
    """Scalars against environment steps, returns.csv, and the progress bar (lines on a pipe)."""

    def __init__(self, config: Config, dataset: ReplayDataset, run_dir: Path) -> None:
        self.config, self.dataset, self.run_dir = config, dataset, run_dir
        self.speed = Speed()
        self.progress: Progress = Bar(config) if sys.stderr.isatty() else Lines(config)
        self.due = Every(int(config.trainer.log_every))
        self.sums: dict[str, Tensor] = {}
        self.num_summed = 0
        self.last_return: float | None = None
        self.wall_seconds = 0.0  # of all the sessions before this one
        self.started = time.monotonic()
        self.log_metrics: Callable[[dict[str, float], int], None]

    @property
    def seconds(self) -> float:
        """Wall time of the run, over all its sessions."""
        return self.wall_seconds + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"wall_seconds": self.seconds, "last_return": self.last_return}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.wall_seconds, self.last_return = state_dict["wall_seconds"], state_dict["last_return"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()
        logger = trainer.logger
        assert logger is not None
        self.log_metrics = lambda values, env_step: logger.log_metrics(values, step=env_step)
        self.dataset.after_step = self.on_policy_step

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.updates = trainer.global_step  # not known before
        self.due.last = self.env_steps
        trim_returns(self.run_dir / RETURNS_FILE, self.env_steps)

    @property
    def env_steps(self) -> int:
        return self.dataset.collector.env_steps

    def on_policy_step(self) -> None:
        """Called by the dataset after every policy step, random ones before the first update included."""
        for done in self.dataset.collector.drain_episodes():
            self.last_return = done.ret
            self.log_metrics({"episode/return": done.ret, "episode/length": float(done.length)}, done.env_step)
            append_return(self.run_dir / RETURNS_FILE, done.env_step, self.seconds, done.ret, done.length)
        self.speed.mark(self.env_steps, self.updates)
        self.progress.show(self.env_steps, self.updates, self.speed, self.last_return)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.updates == 0:
            self.speed.forget()  # collecting with random actions was faster than what follows
        self.updates = trainer.global_step
        for name, value in outputs["metrics"].items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.num_summed += 1
        if self.due(self.env_steps):
            self.log_scalars()

    def log_scalars(self) -> None:
        """Means since the last row, counters and speeds."""
        values = {name: float(total) / self.num_summed for name, total in self.sums.items()}
        collector = self.dataset.collector
        batch = self.config.batch_size * self.config.batch_length
        values["replay/size"] = float(self.dataset.replay.num_rows)
        values["replay/ratio"] = self.updates * batch / max(collector.policy_steps - collector.collect_steps, 1)
        values["train/updates"] = float(self.updates)
        values["time/wall_hours"] = self.seconds / 3600
        if self.speed.env_steps > 0:
            values["time/env_steps_per_second"] = self.speed.env_steps
            values["time/updates_per_second"] = self.speed.updates
            values["time/hours_left"] = hours_left(self.config, self.env_steps, self.speed)
        self.log_metrics(values, self.env_steps)
        self.sums, self.num_summed = {}, 0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.num_summed:
            self.log_scalars()
        self.progress.close()


class Progress(Protocol):
    def show(self, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> None: ...
    def close(self) -> None: ...


class Bar:
    """A bar in environment steps, for a terminal."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.bar: tqdm | None = None

    def show(self, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> None:
        if self.bar is None:
            form = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} env steps{postfix}"
            self.bar = tqdm(total=int(self.config.trainer.max_steps), bar_format=form, unit_scale=True, mininterval=0.5)
        self.bar.n = min(env_steps, self.bar.total)
        self.bar.set_postfix_str(summary(self.config, env_steps, speed, last_return), refresh=False)
        self.bar.update(0)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.refresh()
            self.bar.close()


class Lines:
    """One line a minute, for a pipe or a file; the first as soon as updates have a speed."""

    def __init__(self, config: Config, seconds: float = 60.0) -> None:
        self.config, self.seconds = config, seconds
        self.next = time.monotonic() + min(seconds, 20.0)
        self.line = ""

    def show(self, env_steps: int, updates: int, speed: Speed, last_return: float | None) -> None:
        if time.monotonic() < self.next:
            return
        self.next = time.monotonic() + self.seconds
        share = env_steps / self.config.trainer.max_steps
        print(
            f"{env_steps:,} of {self.config.trainer.max_steps:,} env steps ({share:.1%}), {updates:,} updates, "
            f"{summary(self.config, env_steps, speed, last_return)}",
            flush=True,
        )

    def close(self) -> None:
        pass


def summary(config: Config, env_steps: int, speed: Speed, last_return: float | None) -> str:
    shown = "-" if last_return is None else f"{last_return:.1f}"
    left = duration(hours_left(config, env_steps, speed))
    return f"return {shown}, {speed.env_steps:.0f} env steps/s, {speed.updates:.2f} updates/s, {left} left"


class Pictures:
    """Moving pictures: a GIF under <run_dir>/videos, and in TensorBoard as an image that moves."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def add(self, trainer: L.Trainer, tag: str, frames: list[Any], env_step: int) -> None:
        data = write_gif(self.run_dir / "videos" / f"{tag.replace('/', '_')}_{env_step:09d}.gif", frames)
        if isinstance(trainer.logger, TensorBoardLogger):
            height, width, _ = frames[0].shape
            image = Summary.Image(encoded_image_string=data, height=height, width=width, colorspace=3)
            writer = trainer.logger.experiment._get_file_writer()  # add_video needs moviepy 1 and is silent without it
            assert writer is not None
            writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), env_step)


class Evaluate(Callback):
    """Every `eval_every` environment steps and at the end: episodes with seeds of their own, in an own environment."""

    def __init__(
        self, config: Config, dataset: ReplayDataset, agent: Agent, make_env: Callable[[], Env], run_log: RunLog
    ) -> None:
        self.config, self.dataset, self.agent, self.make_env, self.run_log = config, dataset, agent, make_env, run_log
        self.due = Every(int(config.trainer.eval_every))
        self.pictures = Pictures(run_log.run_dir)
        self.env: Env | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.due.last = self.dataset.collector.env_steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.due(self.dataset.collector.env_steps):
            self.run(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        env_steps = self.dataset.collector.env_steps
        is_finished = env_steps >= self.config.trainer.max_steps
        if self.due.interval and is_finished and self.due.last != env_steps and trainer.global_step:
            self.run(trainer)
        if self.env is not None:
            self.env.close()
            self.env = None

    def run(self, trainer: L.Trainer) -> None:
        if self.env is None:
            self.env = self.make_env()
        env_steps = self.dataset.collector.env_steps
        result = evaluate(self.agent, self.env, self.config.trainer.eval_episodes, self.config.seed, record=True)
        self.run_log.log_metrics({"eval/return_mean": result.mean, "eval/return_std": result.std}, env_steps)
        if result.frames:
            stride = -(-len(result.frames) // 250)  # at most 250 frames, enough to see how it moves
            self.pictures.add(trainer, "eval/episode", result.frames[::stride], env_steps)
        self.run_log.speed.forget()


class OpenLoopVideo(Callback):
    """Every `video_every` environment steps: a few training sequences beside what the model predicts of them.

    The model sees the first 5 frames, then only the actions.
    """

    def __init__(self, config: Config, dataset: ReplayDataset, agent: Agent, run_dir: Path, sequences: int = 6) -> None:
        self.config, self.dataset, self.agent, self.sequences = config, dataset, agent, sequences
        self.due = Every(int(config.trainer.video_every))
        self.pictures = Pictures(run_dir)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.due.last = self.dataset.collector.env_steps

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        env_steps = self.dataset.collector.env_steps
        keys = [key for key, space in self.agent.obs_space.items() if space.is_image]
        if not keys or not self.due(env_steps):
            return
        few = Batch(
            {key: value[: self.sequences] for key, value in batch.obs.items()},
            *(value[: self.sequences] for value in batch[1:]),
        )
        context = min(CONTEXT, self.config.batch_length - 1)
        with forked_random(self.config.seed), self.agent.autocast():
            model = self.agent.world_model.open_loop(few, context)
        for key in keys:
            frames = open_loop_frames(few.obs[key].float() / 255, model[key], context)
            self.pictures.add(trainer, f"open_loop/{key}", frames, env_steps)


class Checkpoints(Callback):
    """Writes a checkpoint every few minutes and at the end, with everything that an exact resume needs."""

    def __init__(self, config: Config, dataset: ReplayDataset, run_dir: Path) -> None:
        self.config, self.dataset, self.run_dir = config, dataset, run_dir
        self.saved_at = time.monotonic()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["dreamer"] = {
            "config": to_dict(self.config),
            "digest": digest(self.config),
            "env_steps": self.dataset.collector.env_steps,
            "updates": trainer.global_step,
            "dataset": self.dataset.state_dict(),
            "random": random_state(),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.random = checkpoint["dreamer"]["random"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        if hasattr(self, "random"):  # last of all, so that nothing before it has drawn
            set_random_state(self.random)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() - self.saved_at >= 60 * self.config.trainer.checkpoint_minutes:
            save_checkpoint(trainer, self.run_dir)
            self.saved_at = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        save_checkpoint(trainer, self.run_dir)


class GracefulStop(Callback):
    """Ctrl-C and SIGTERM end the run after the update in progress, with a checkpoint; a second one ends it at once."""

    def __init__(self, dataset: ReplayDataset) -> None:
        self.dataset = dataset
        self.received: int | None = None
        self.previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self.handle)

    def handle(self, number: int, frame: Any) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number
        print(f"\n{signal.Signals(number).name}: saving and stopping (again to stop at once).", flush=True)
        self.dataset.stop()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = True  # the dataset has ended, and with it the run: without this, Lightning begins anew

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


class Profile(Callback):
    """A trace of a few updates, collection included, as <run_dir>/trace.json (open it in Perfetto or chrome://tracing)."""

    def __init__(self, run_dir: Path, skip: int = 5, updates: int = 5) -> None:
        self.path, self.skip, self.updates = run_dir / "trace.json", skip, updates
        self.profiler: torch.profiler.profile | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.skip:
            self.profiler = torch.profiler.profile()
            self.profiler.start()
        elif self.profiler is not None and trainer.global_step == self.skip + self.updates:
            self.profiler.stop()
            self.profiler.export_chrome_trace(str(self.path))
            print(
                f"{self.profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=20)}\ntrace: {self.path}"
            )
            self.profiler = None


def append_return(path: Path, env_step: int, seconds: float, ret: float, length: int) -> None:
    is_new = not path.exists() or not path.stat().st_size
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["env_step", "wall_seconds", "return", "length"])
        writer.writerow([env_step, f"{seconds:.1f}", f"{ret:.4f}", length])


def trim_returns(path: Path, env_step: int) -> None:
    """Drop what lies beyond the checkpoint that a run goes on from: those steps will be taken again."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [line for line in file if line.endswith("\n")] or [""]  # no half line of a killed process
    kept = [row for row in rows if int(row.split(",")[0]) <= env_step]
    part = path.with_suffix(".part")
    part.write_bytes("".join([header, *kept]).encode())
    os.replace(part, path)

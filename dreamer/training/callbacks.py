"""What happens around the updates: latents back to replay, evaluation, videos, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from dreamer import ranks
from dreamer.agent import Agent
from dreamer.config.compose import to_dict
from dreamer.config.digest import digest
from dreamer.config.schema import Config
from dreamer.data.dataset import ReplayDataset
from dreamer.data.storage import OBS_PREFIX
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.spec import Env
from dreamer.errors import RunStopped
from dreamer.saved.checkpoint_file import OTHER_RANKS
from dreamer.saved.policy_file import SPACES, spaces_to_dict
from dreamer.training import random_state
from dreamer.training.display.dreams import CONTEXT, dream_films
from dreamer.training.display.films import write_gif
from dreamer.training.display.loggers import log_film
from dreamer.training.display.run_log import Every, RunLog, check_finite
from dreamer.training.evaluation import Watched, evaluate, model_losses
from dreamer.training.saving.checkpoint import save_checkpoint
from dreamer.training.saving.disk import writing
from dreamer.training.saving.rank_states import random_of_rank
from dreamer.training.stopping import GracefulStop
from dreamer.types import Batch


class FitStandardize(Callback):
    """Before the first update: takes the spread of vector observations from the rows in replay."""

    def __init__(self, dataset: ReplayDataset, agent: Agent) -> None:
        self.dataset, self.standardize = dataset, agent.world_model.standardize

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 0:
            replay = self.dataset.replay
            here = {key: replay.column(OBS_PREFIX + key) for key in self.standardize.shapes}
            everywhere = ranks.everyones(here)
            rows = {key: np.concatenate([each[key] for each in everywhere]) for key in here}
            self.standardize.fit({key: torch.from_numpy(values) for key, values in rows.items()})


class FadeExploration(Callback):
    """Before each update: tells the way to explore how far the run is."""

    def __init__(self, dataset: ReplayDataset, agent: Agent) -> None:
        self.dataset, self.explore = dataset, agent.explore

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.explore.fade(self.dataset.collector.policy_steps)


class LatentWriteBack(Callback):
    """Refreshes the stored latents of the rows that were trained on, before the next batch is drawn."""

    def __init__(self, dataset: ReplayDataset) -> None:
        self.dataset = dataset

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.dataset.write_back(batch.row_ids, outputs["deter"], outputs["stoch"])


class Pictures:
    """Moving pictures: a GIF under <run_dir>/videos, and what the logger makes of it."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def add(self, trainer: L.Trainer, tag: str, frames: list[Any], env_step: int) -> None:
        path = self.run_dir / "videos" / f"{tag.replace('/', '_')}_{env_step:09d}.gif"
        with writing(path):
            write_gif(path, frames)
        log_film(trainer.logger, tag, path, frames[0].shape, env_step)


class Evaluate(Callback):
    """Every `eval_every` environment steps and at the end: episodes with seeds of their own, in an own environment.

    One that a signal cuts short is made up for when the run goes on.
    """

    def __init__(
        self,
        config: Config,
        dataset: ReplayDataset,
        agent: Agent,
        make_env: Callable[[], Env],
        run_log: RunLog,
        stop: GracefulStop,
    ) -> None:
        self.config, self.dataset, self.agent, self.make_env, self.run_log = config, dataset, agent, make_env, run_log
        self.stop = stop
        self.due = Every(int(config.trainer.eval_every))
        self.pictures = Pictures(run_log.run_dir)
        self.env: Env | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"due": self.due.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.due.last = state_dict["due"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        before = self.due.last
        if self.due(self.dataset.collector.env_steps) and not self.run(trainer):
            self.due.last = before

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        env_steps = self.dataset.collector.env_steps
        is_finished = env_steps >= self.config.trainer.max_steps
        if self.due.interval and is_finished and self.due.last != env_steps and trainer.global_step:
            # An hour of training is worth more than its evaluation.
            save_checkpoint(trainer, self.run_log.run_dir, self.dataset)
            if self.run(trainer):
                self.due.last = env_steps  # the next checkpoint says that this one is done
        if self.env is not None:
            self.env.close()
            self.env = None

    def run(self, trainer: L.Trainer) -> bool:
        """Whether it came to its end. Rank 0 does it, and the others wait."""
        is_done, stopped = False, None
        if ranks.rank() == 0:
            try:
                is_done = self.evaluate(trainer)
            except RunStopped as error:
                stopped = error
        is_done, words = ranks.of_first((is_done, stopped and str(stopped)))
        if words:
            raise stopped or RunStopped(words)
        return is_done

    def evaluate(self, trainer: L.Trainer) -> bool:
        """Whether it came to its end."""
        if self.env is None:
            self.env = self.make_env()
        env_steps = self.dataset.collector.env_steps
        agent, seed = self.agent, self.config.seed
        episodes, length = self.config.trainer.eval_episodes, self.config.trainer.eval_length
        env = Watched(self.env, self.stop.evaluating)
        try:
            result = evaluate(
                agent, env, episodes, seed, length, record=True, keep_rows=True,
                is_stopped=lambda: self.dataset.is_stopped, cuts_faults=self.config.env.on_fault == "truncate",
            )  # fmt: skip
        except UnsoundRow as unsound:
            raise RunStopped(f"The environment of the evaluation: {unsound}.") from unsound
        if self.dataset.is_stopped:
            return False
        losses = model_losses(agent, result.sequences, seed)
        metrics = {"eval/return_mean": result.mean, "eval/return_std": result.std}
        self.run_log.log_metrics({**metrics, **{f"eval_loss/{name}": loss for name, loss in losses.items()}}, env_steps)
        num = len(result.returns)
        self.run_log.progress.tell(
            f"evaluation at {env_steps:,} env steps: {result.mean:.1f} +- {result.std:.1f} over {num} "
            f"episode{'' if num == 1 else 's'}{'; the first is filmed in videos/' if result.frames else ''}"
        )
        if result.frames:
            stride = -(-len(result.frames) // 250)  # at most 250 frames, enough to see how it moves
            self.pictures.add(trainer, "eval/episode", result.frames[::stride], env_steps)
        self.run_log.speed.forget()
        return True


class OpenLoopVideo(Callback):
    """Every `video_every` environment steps: a few training sequences beside what the model predicts of them.

    They are of rank 0. The model sees the first 5 frames, then only the actions.
    """

    def __init__(self, config: Config, dataset: ReplayDataset, agent: Agent, run_dir: Path, sequences: int = 6) -> None:
        self.config, self.dataset, self.agent, self.sequences = config, dataset, agent, sequences
        self.due = Every(int(config.trainer.video_every))
        self.pictures = Pictures(run_dir)

    def state_dict(self) -> dict[str, Any]:
        return {"due": self.due.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.due.last = state_dict["due"]

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        env_steps = self.dataset.collector.env_steps
        has_images = any(space.is_image for space in self.agent.obs_space.values())
        if not has_images or not self.due(env_steps) or ranks.rank() > 0:
            return
        unbroken = ~batch.is_first[:, 1:].any(1)  # no dream can know how the next episode begins
        chosen = unbroken.float().argsort(descending=True, stable=True)[: self.sequences]
        shown = Batch({key: value[chosen] for key, value in batch.obs.items()}, *(value[chosen] for value in batch[1:]))
        context = min(CONTEXT, self.config.batch_length - 1)
        for key, frames in dream_films(self.agent, shown, self.config.seed, context).items():
            self.pictures.add(trainer, f"open_loop/{key}", frames, env_steps)


class Checkpoints(Callback):
    """Writes a checkpoint every few minutes and at the end, with everything that an exact resume needs.

    Also where something outside of the program ends the run (RunStopped): all is then as before that happened.
    """

    def __init__(self, config: Config, dataset: ReplayDataset, agent: Agent, run_dir: Path, stop: GracefulStop) -> None:
        self.config, self.dataset, self.agent, self.run_dir, self.stop = config, dataset, agent, run_dir, stop
        self.saved_at = time.monotonic()
        self.random: dict[str, Any] | None = None  # of the checkpoint that the run goes on from

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        with writing(self.dataset.replay.directory):
            dataset = self.dataset.state_dict()  # first, since it counts the policy steps that are being taken
        states = ranks.everyones({"dataset": dataset, "random": random_state.get_state(self.agent.device)})
        checkpoint["dreamer"] = {
            "config": to_dict(self.config),
            "digest": digest(self.config),
            "env_steps": self.dataset.collector.env_steps,
            "updates": trainer.global_step,
            **states[0],
            **({OTHER_RANKS: states[1:]} if states[1:] else {}),
            SPACES: spaces_to_dict(self.agent.obs_space, self.agent.action_space),
        }

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self.random = random_of_rank(checkpoint)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.saved_at = time.monotonic()
        if self.random is not None:  # last of all, so that nothing before it has drawn
            random_state.set_state(self.random, self.agent.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        is_due = time.monotonic() - self.saved_at >= 60 * self.config.trainer.checkpoint_minutes
        if ranks.totals(is_due)[0]:
            check_finite(outputs["metrics"], trainer.global_step, batch)
            self.dataset.finish_steps()  # before anything is saved, so that logs and counters agree
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        if isinstance(exception, RunStopped):
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        save_checkpoint(trainer, self.run_dir, self.dataset)
        self.saved_at = time.monotonic()
        self.stop.saved_at = f"the checkpoint of environment step {self.dataset.collector.env_steps:,}"


class Profile(Callback):
    """A trace of a few updates, collection included, as <run_dir>/trace.json (open it in Perfetto or chrome://tracing)."""

    def __init__(self, run_dir: Path, skip: int = 5, updates: int = 5) -> None:
        self.path, self.skip, self.updates = run_dir / "trace.json", skip, updates
        self.num_seen = 0  # updates since this start of the run, which may be a resumed one
        self.profiler: torch.profiler.profile | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.num_seen += 1
        if self.num_seen == self.skip:
            self.profiler = torch.profiler.profile()
            self.profiler.start()
        elif self.num_seen == self.skip + self.updates:
            self.write()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.write()  # where the run was shorter

    def write(self) -> None:
        if self.profiler is None:
            return
        self.profiler.stop()
        self.profiler.export_chrome_trace(str(self.path))
        print(f"{self.profiler.key_averages().table(sort_by='self_cpu_time_total', row_limit=20)}\ntrace: {self.path}")
        self.profiler = None

"""What a person sees of a run: the lines at the start, pictures that move, speeds."""

from __future__ import annotations

import io
import math
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from dreamer.agent import Agent
from dreamer.config import Config
from dreamer.data.storage import gigabytes
from dreamer.training.compiling import uses_graphs
from dreamer.types import Space


class Speed:
    """Environment steps and updates per second over about the last `seconds`."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds
        self.marks: deque[tuple[float, int, int]] = deque()
        self.update_share = 1.0  # of that time, as far as it was measured

    def mark(self, env_steps: int, updates: int) -> None:
        now = time.monotonic()
        if self.marks and now - self.marks[-1][0] < self.seconds / 200:
            return
        self.marks.append((now, env_steps, updates))
        while now - self.marks[0][0] > self.seconds and len(self.marks) > 2:
            self.marks.popleft()

    def forget(self) -> None:
        """Leave out what comes between here and the next mark (an evaluation, say)."""
        self.marks.clear()

    @property
    def env_steps(self) -> float:
        return self._rate(1)

    @property
    def updates(self) -> float:
        return self._rate(2)

    def _rate(self, column: int) -> float:
        if len(self.marks) < 2:
            return 0.0
        (start, *first), (end, *last) = self.marks[0], self.marks[-1]
        return (last[column - 1] - first[column - 1]) / max(end - start, 1e-9)


class Share:
    """Share of the wall time that lies between `begin` and `end`, from the first `begin` or the last `take` on."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.began = self.inside = 0.0

    def begin(self) -> None:
        self.began = time.monotonic()
        if self.since is None:
            self.since = self.began

    def end(self) -> None:
        self.inside += time.monotonic() - self.began

    def take(self) -> float:
        """The share, from 0 to 1; counting starts anew."""
        now = time.monotonic()
        assert self.since is not None, "begin comes first"
        share = self.inside / max(now - self.since, 1e-9)
        self.since, self.inside = now, 0.0
        return share


def hours_left(config: Config, env_steps: int, speed: Speed) -> float:
    """Until trainer.max_steps at the present speed; infinite while there are no updates to tell it from.

    Where the train ratio is still that of the first steps, updates will take more of the time.
    """
    if speed.updates == 0 or speed.env_steps == 0:
        return math.inf
    trainer = config.trainer
    left = max(trainer.max_steps - env_steps, 0)
    later = min(left, max(trainer.max_steps - trainer.early_steps * config.env.action_repeat, 0))
    growth = trainer.train_ratio / trainer.ratio_at(0) - 1 if later < left else 0.0
    return (left + later * growth * speed.update_share) / speed.env_steps / 3600


def duration(hours: float) -> str:
    if math.isinf(hours):
        return "?"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"


def describe_run(config: Config, agent: Agent, threads: int, compile: bool, replay_bytes: int, storage: str) -> str:
    """What a run will do, in the units of the configuration."""
    trainer, repeat = config.trainer, config.env.action_repeat
    compiled = "compiled, for which the first updates wait 1 to 3 minutes" if compile else "not compiled"
    recorded = ", CUDA graphs" if uses_graphs(trainer.cuda_graphs, agent.device) else ""
    how = f"{agent.device}, {agent.precision}, {threads} CPU threads, {compiled}{recorded}"
    place = "at once, each in a process of its own" if config.env.workers == "process" else "in this process"
    count = f"{config.env.num_envs} environment{'' if config.env.num_envs == 1 else 's'}"
    policy_steps = trainer.max_steps / repeat
    rows = config.batch_size * config.batch_length
    ratio, period = f"{trainer.train_ratio:g}", f"{rows / trainer.train_ratio:,.4g}"
    early_ratio = trainer.ratio_at(int(trainer.collect_steps))
    if early_ratio < trainer.train_ratio:
        first = f"{early_ratio:g} (trainer.early_ratio; null: no limit)"
        first_period = f"{rows / early_ratio:,.4g}"
        is_lifted = trainer.early_steps < policy_steps
        ratio = f"{first} until policy step {trainer.early_steps:,}, then {ratio}" if is_lifted else first
        period = f"{first_period}, then {period}" if is_lifted else first_period
    overlap = (
        "true: environments step in a thread beside the updates"
        if trainer.overlap
        else "false: in turn (true pays with more than two cores, or a GPU)"
    )
    never = "" if policy_steps > trainer.collect_steps else ", so this run makes none (trainer.collect_steps)"
    where = {"ram": "in memory, mirrored on disk at each checkpoint", "disk": "on disk (memory-mapped)"}[storage]
    return "\n".join(
        [
            f"run_dir      {config.run_dir}",
            f"env          {config.env.name}, {config.env.obs}, {count} {place}, seed {config.seed}",
            f"observation  {describe_observation(agent.obs_space)}; action: {describe_action(agent.action_space)}",
            f"model        {config.model.name}; {how}",
            f"overlap      {overlap}",
            f"max_steps    {trainer.max_steps:,} environment steps (simulator control steps) = "
            f"{policy_steps:,.0f} policy steps x action repeat {repeat}",
            f"train_ratio  {ratio} replayed steps per policy step = one update of {config.batch_size} "
            f"x {config.batch_length} every {period} policy steps; about {config.num_updates:,.0f} updates in all",
            f"collect      {trainer.collect_steps:,} policy steps with random actions before the first update{never}",
            f"replay       {config.replay.capacity:,} policy steps = {gigabytes(replay_bytes)} when full, {where}",
        ]
    )


def describe_observation(obs_space: dict[str, Space]) -> str:
    """`image 64 x 64 x 3, speed 2, gear one of 5`."""
    shapes = {key: " x ".join(str(size) for size in space.shape) or "1" for key, space in obs_space.items()}
    return ", ".join(
        f"{key} {describe_choices(space) if space.is_discrete else shapes[key]}" for key, space in obs_space.items()
    )


def describe_action(space: Space) -> str:
    return describe_choices(space) if space.is_discrete else f"{space.size} in [-1, 1]"


def describe_choices(space: Space) -> str:
    counts = [str(n) for n in space.classes]
    return f"one of {' x '.join(counts[:6])}{f' and {len(counts) - 6} more' if len(counts) > 6 else ''}"


def open_loop_frames(
    truth: Float[Tensor, "B T h w c"], model: Float[Tensor, "B T h w c"], context: int
) -> list[np.ndarray]:
    """Frames of truth, model and error stacked; a green edge while the model sees the truth, red while it dreams.

    Both in [0, 1]. The error is (model - truth + 1) / 2, so grey is right.
    """
    rows = [truth, model, (model - truth + 1) / 2]
    video = torch.stack([row.float().cpu().clamp(0, 1) for row in rows], dim=2)  # B T 3 h w c
    video = video[..., :3] if video.shape[-1] >= 3 else video[..., :1].expand(*video.shape[:-1], 3)
    pixels = (video * 255).round().to(torch.uint8)
    pixels[:, :context, 1, :2] = torch.tensor([0, 200, 0], dtype=torch.uint8)
    pixels[:, context:, 1, :2] = torch.tensor([220, 0, 0], dtype=torch.uint8)
    _, time_steps, rows_count, height, _, _ = pixels.shape
    pixels = pixels.permute(1, 2, 3, 0, 4, 5).reshape(time_steps, rows_count * height, -1, 3)
    return list(pixels.numpy())


def encode_gif(frames: list[np.ndarray], fps: float = 20.0) -> bytes:
    """uint8 [h w 3] frames as an endless GIF. One palette, so that colours do not flicker between frames."""
    images = [Image.fromarray(frame) for frame in frames]
    few = frames[:: -(-len(frames) // 32)]  # from all over the film: what only some frames show has its colours too
    palette = Image.fromarray(np.concatenate(few)).quantize(colors=256)
    paletted = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    paletted[0].save(
        buffer, "GIF", save_all=True, append_images=paletted[1:], duration=max(20, round(1000 / fps)), loop=0
    )
    return buffer.getvalue()


def write_gif(path: Path, frames: list[np.ndarray], fps: float = 20.0) -> bytes:
    data = encode_gif(frames, fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data

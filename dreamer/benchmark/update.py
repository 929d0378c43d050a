"""Seconds of one update, by phase, beside the seconds that its arithmetic alone would take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch.utils.flop_counter import FlopCounterMode

from dreamer.agent import Agent
from dreamer.benchmark.machine import matrix_speed
from dreamer.benchmark.timing import Budget, best, interleaved, peak_memory
from dreamer.config.schema import Config, EnvConfig
from dreamer.envs.make import make_env
from dreamer.training.module import DreamerModule
from dreamer.training.run import build_agent, quiet_libraries
from dreamer.training.speed.compiling import choose_compile, compile_parts, record_graphs, uses_graphs
from dreamer.training.speed.cuda_graph import WARM_UP
from dreamer.training.speed.device import synchronize
from dreamer.training.speed.malloc import keep_freed_memory
from dreamer.types import Batch, Space

Update = Callable[[], None]


def measure_update(config: Config, threads: list[int], budget: Budget, is_alone: bool = False) -> dict[str, Any]:
    """Median of the fastest of `threads` with its phases (wall seconds), and the limit that arithmetic sets.

    A CUDA graph has no phases. is_alone, in a process that has done nothing else: also the most memory that it
    held, libraries included; with CUDA what tensors took there.
    """
    agent, batch = build(config)
    device = agent.device  # Lightning takes the agent off it in the end
    is_recorded = uses_graphs(config.trainer.cuda_graphs, device)
    clocks = {number: PhaseClock(device) for number in threads}
    timings = {}

    def work(module: DreamerModule, update: Update) -> None:
        for _ in range(WARM_UP + 1 if is_recorded else 0):
            update()

        def with_threads(number: int) -> None:
            torch.set_num_threads(number)
            if not is_recorded:
                module.after_phase = clocks[number]
                clocks[number].start()
            update()

        timings.update(interleaved({number: partial(with_threads, number) for number in threads}, budget))

    is_compiled = choose_compile(config.trainer.compile, config.num_updates)
    in_lightning(agent, batch, work, is_compiled, is_recorded)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory()
    chosen = best(timings)
    torch.set_num_threads(chosen)
    gflop = count_gflop(config)
    speed = matrix_speed(torch.bfloat16 if agent.precision == "bfloat16" else torch.float32, device)
    last = config.model.imagination.last or config.batch_length
    return {
        "seconds": timings[chosen].seconds,
        "cpu_seconds": timings[chosen].cpu_seconds,
        "threads": chosen,
        "by_threads": {str(number): timing._asdict() for number, timing in timings.items()},
        **({} if is_recorded else {"phases": clocks[chosen].medians()}),
        "gflop": gflop,
        "gflop_per_second": speed,
        "limit_seconds": gflop / speed,
        "times_limit": timings[chosen].seconds * speed / gflop,
        "batch_size": config.batch_size,
        "batch_length": config.batch_length,
        "imagined_starts": config.batch_size * last,
        "horizon": config.model.imagination.horizon,
        "parameters": sum(p.numel() for group in agent.parameter_groups().values() for p in group),
        "precision": agent.precision,
        "is_compiled": is_compiled,
        "is_recorded": is_recorded,
        **({"peak_memory_gb": peak / 1e9} if is_alone else {}),
    }


class PhaseClock:
    """Wall seconds of each phase of each update, fed by `DreamerModule.after_phase`."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.updates: list[dict[str, float]] = []

    def start(self) -> None:
        self.updates.append({})
        self.last = time.perf_counter()

    def __call__(self, phase: str) -> None:
        synchronize(self.device)
        now = time.perf_counter()
        self.updates[-1][phase] = now - self.last
        self.last = now

    def medians(self) -> dict[str, float]:
        """Over all updates but the first, which warms up."""
        counted = self.updates[1:]
        return {phase: median(update[phase] for update in counted) for phase in counted[0]}


class OneBatch:
    """A dataset of one batch; Lightning would take a list for several datasets."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def __iter__(self) -> Iterator[Batch]:
        return iter([self.batch])

    def __len__(self) -> int:
        return 1


class WorkingModule(DreamerModule):
    """The module of a training run, given to `work` with a function that makes one update on the batch at hand."""

    def __init__(self, agent: Agent, work: Callable[[DreamerModule, Update], None]) -> None:
        super().__init__(agent)
        self.work = work

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        step = super().training_step

        def update() -> None:
            step(batch, batch_idx)
            synchronize(self.agent.device)

        self.work(self, update)
        return {}


def in_lightning(
    agent: Agent,
    batch: Batch,
    work: Callable[[DreamerModule, Update], None],
    is_compiled: bool = False,
    is_recorded: bool = False,
) -> None:
    """Calls work(module, update) where training calls training_step: with optimizer, device and precision in place."""
    quiet_libraries()
    module = WorkingModule(agent, work)
    if is_compiled:
        compile_parts(module)
    if is_recorded:
        record_graphs(module)
    trainer = L.Trainer(
        accelerator={"mps": "mps", "cuda": "gpu"}.get(agent.device.type, "cpu"),
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[LightningEnvironment()],
        log_every_n_steps=1,
    )
    trainer.fit(module, OneBatch(batch))


def count_gflop(config: Config) -> float:
    """GFLOP of the matrix products and convolutions of one update as it is computed; a product and sum are two.

    Counted with one and with two sequences: what the second adds, each further one adds.
    """
    one, two = (counted_flop(replace(config, batch_size=size)) for size in (1, 2))
    return (one + (config.batch_size - 1) * (two - one)) / 1e9


def counted_flop(config: Config) -> int:
    """Floating-point operations of one update, forward and backward, counted as torch calls its operators."""
    agent, batch = build(config)
    counter = FlopCounterMode(display=False)

    def work(module: DreamerModule, update: Update) -> None:
        with counter:
            update()

    in_lightning(agent, batch, work)
    return counter.get_total_flops()


def build(config: Config) -> tuple[Agent, Batch]:
    """An agent with fresh weights, and a batch of noise for it, with memory handled as in a run."""
    keep_freed_memory()
    torch.manual_seed(config.seed)
    obs_space, action_space = spaces(config.env)
    return build_agent(config, obs_space, action_space), random_batch(config, obs_space, action_space)


def spaces(config: EnvConfig) -> tuple[dict[str, Space], Space]:
    """Observation and action space of a task. Of the Control Suite nothing is drawn, so no OpenGL is needed."""
    env = make_env(without_pictures(config))
    obs_space, action_space = env.obs_space, env.action_space
    env.close()
    if config.suite != "dmc":
        return obs_space, action_space
    image = {"image": Space((config.pixels, config.pixels, 3), "uint8")}
    return {"proprio": obs_space, "vision": image, "both": {**obs_space, **image}}[config.obs], action_space


def without_pictures(config: EnvConfig) -> EnvConfig:
    """The same task from state, where every task has one: pictures are drawn only when somebody asks for a frame."""
    return replace(config, obs="proprio") if config.suite == "dmc" else config


def random_batch(config: Config, obs_space: dict[str, Space], action_space: Space) -> Batch:
    """Noise in the shapes of a batch from replay; one sequence in four begins an episode halfway."""
    shape, rssm = (config.batch_size, config.batch_length), config.model.rssm
    is_first = torch.zeros(shape, dtype=torch.bool)
    is_first[:, 0] = True
    is_first[::4, config.batch_length // 2] = True
    return Batch(
        obs={key: random_values(space, shape) for key, space in obs_space.items()},
        prev_action=random_values(action_space, shape).clamp(min=-1),
        reward=torch.rand(shape),
        is_first=is_first,
        is_last=is_first.roll(-1, 1),
        is_terminal=torch.zeros(shape, dtype=torch.bool),
        context_deter=torch.rand(config.batch_size, rssm.deter) * 2 - 1,
        context_stoch=torch.randint(rssm.classes, (config.batch_size, rssm.stoch)),
        row_ids=torch.zeros(config.batch_size, 2, dtype=torch.int64),
    )


def random_values(space: Space, shape: tuple[int, ...]) -> torch.Tensor:
    """Noise [*shape, *space.shape] of the space's type; floats in [-1, 1]."""
    if space.is_image:
        return torch.randint(256, (*shape, *space.shape), dtype=torch.uint8)
    if space.is_discrete:
        return torch.stack([torch.randint(n, shape, dtype=torch.int32) for n in space.classes], -1)
    return torch.rand(*shape, *space.shape) * 2 - 1

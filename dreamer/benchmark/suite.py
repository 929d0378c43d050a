"""Which measurements a benchmark makes, in order, each printed as it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamer.benchmark.collect import measure_collect
from dreamer.benchmark.end_to_end import measure_end_to_end
from dreamer.benchmark.machine import machine
from dreamer.benchmark.policy import measure_policy
from dreamer.benchmark.render import measure_render
from dreamer.benchmark.replay import check_disk, measure_replay
from dreamer.benchmark.table import Entry, describe, header, lines, section
from dreamer.benchmark.timing import Budget, in_fresh_process
from dreamer.benchmark.update import measure_update
from dreamer.config.schema import Config
from dreamer.envs.make import check_env, check_workers
from dreamer.training.run import quiet_libraries
from dreamer.training.saving.sessions import commit, versions
from dreamer.training.speed.device import choose_device
from dreamer.training.speed.malloc import keep_freed_memory

RAM_STEPS = 20_000  # rows of replay in memory: 0.3 GB of pictures


@dataclass
class Plan:
    """What to measure.

    config: the run that end_to_end trains, and the task that is drawn
    rows: name -> config of every network; is_standard: the usual ones, not one that the user asked for
    seconds: for each measurement; None leaves it to is_quick
    disk_steps: rows on disk, where is_quick does not leave the disk out
    """

    config: Config
    rows: dict[str, Config]
    is_standard: bool
    is_quick: bool
    threads: list[int]
    seconds: float | None
    disk_steps: int

    @property
    def budget(self) -> Budget:
        quick, thorough = Budget(self.seconds or 2.0, 2), Budget(self.seconds or 20.0, 5)
        return quick if self.is_quick else thorough

    def __post_init__(self) -> None:
        if self.is_quick:
            self.config = without_compiling(self.config)
            self.rows = {name: without_compiling(config) for name, config in self.rows.items()}

    @property
    def replay_row(self) -> Config:
        return self.rows.get("size1m_vision", next(iter(self.rows.values())))


def check_plan(plan: Plan, parts: Sequence[str]) -> None:
    """ValueError, before anything slow starts, for what this machine cannot do."""
    choose_device(plan.config.trainer.device)
    env = plan.config.env
    steps = "end_to_end" in parts or "collect" in parts
    if env.suite == "dmc":  # which needs OpenGL for what is drawn, and only for that
        env = replace(env, obs="vision" if "render" in parts else env.obs if steps else "proprio")
    check_env(env)
    check_workers(env)
    if "replay" in parts and not plan.is_quick:
        check_disk(plan.replay_row, plan.disk_steps)


def measure(plan: Plan, parts: Sequence[str]) -> dict[str, Any]:
    """The report that is written as JSON; its numbers are printed as they come."""
    quiet_libraries()
    keep_freed_memory()
    device = choose_device(plan.config.trainer.device)
    report = {"machine": machine(device), "versions": versions(), "commit": commit()}
    for key, value in report.items():
        print(f"{key:12} {describe(value)}")
    print(header(), flush=True)
    for part in parts:
        entries: dict[str, Entry] = {}
        for name, entry in PARTS[part](plan):
            print("\n".join(lines(part, name, entry)), flush=True)
            entries[name] = entry
        report[part] = entries[""] if "" in entries else entries if part == "render" else section(entries)
    return report


def without_compiling(config: Config) -> Config:
    """Compiling takes minutes, so in a quick benchmark trainer.compile=auto is off, as it is in a short run."""
    if config.trainer.compile != "auto":
        return config
    return replace(config, trainer=replace(config.trainer, compile="off"))


def updates(plan: Plan) -> Iterator[tuple[str, Entry]]:
    for name, config in plan.rows.items():
        if plan.is_quick and plan.is_standard:  # starting a process for each would take a fifth of the time
            yield name, measure_update(config, plan.threads, plan.budget)
        else:
            yield name, in_fresh_process(measure_update, config, plan.threads, plan.budget, True)


def policy_steps(plan: Plan) -> Iterator[tuple[str, Entry]]:
    for name, config in plan.rows.items():
        yield name, measure_policy(config, plan.threads, plan.budget)


def replay(plan: Plan) -> Iterator[tuple[str, Entry]]:
    disk_steps = 0 if plan.is_quick else plan.disk_steps
    yield from measure_replay(plan.replay_row, RAM_STEPS, disk_steps, plan.budget).items()


def collect(plan: Plan) -> Iterator[tuple[str, Entry]]:
    yield from measure_collect(plan.config, plan.threads[0], plan.budget).items()


def rendering(plan: Plan) -> Iterator[tuple[str, Entry]]:
    num_frames, rounds = (10, 3) if plan.is_quick else (40, 7)
    yield from measure_render(plan.config.env, num_frames, rounds).items()


def end_to_end(plan: Plan) -> Iterator[tuple[str, Entry]]:
    yield "", measure_end_to_end(plan.config, plan.seconds or (15.0 if plan.is_quick else 120.0))


PARTS: dict[str, Callable[[Plan], Iterator[tuple[str, Entry]]]] = {
    "update": updates,
    "policy": policy_steps,
    "replay": replay,
    "collect": collect,
    "render": rendering,
    "end_to_end": end_to_end,
}
"""Name -> the measurement, one (name, entry) after another; an empty name where there is only one."""

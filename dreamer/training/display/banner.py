"""The lines that a run begins with: what it will do, in the units of the configuration."""

from __future__ import annotations

import sys

from dreamer.agent import Agent
from dreamer.config.schema import Config
from dreamer.data.storage import gigabytes
from dreamer.training.display.terminal import DIM, hanging, painted, size
from dreamer.training.speed.compiling import uses_graphs
from dreamer.types import Space

INDENT = 13
DISPENSABLE = ("overlap", "collect", "observation", "replay", "model")
"""Lines that a small window can do without, in this order."""

PLACES = {
    "serial": "in this process",
    "process": "at once, each in a process of its own",
    "ray": "at once, each in an actor of Ray",
}
"""env.workers, in words."""


def describe_run(config: Config, agent: Agent, threads: int, compile: bool, replay_bytes: int, storage: str) -> str:
    """What a run will do, in the units of the configuration."""
    trainer, repeat = config.trainer, config.env.action_repeat
    compiled = "compiled, for which the first updates wait 1 to 3 minutes" if compile else "not compiled"
    recorded = ", CUDA graphs" if uses_graphs(trainer.cuda_graphs, agent.device) else ""
    how = f"{agent.device}, {agent.precision}, {threads} CPU threads, {compiled}{recorded}"
    place = PLACES[config.env.workers]
    count = f"{config.env.num_envs} environment{'' if config.env.num_envs == 1 else 's'}"
    count += " in all," if trainer.world_size > 1 else ""
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
        else "false: environments and updates take turns (true pays with more than two cores, or a GPU)"
    )
    never = "" if policy_steps > trainer.collect_steps else ", so this run makes none (trainer.collect_steps)"
    where = {"ram": "in memory, mirrored on disk at each checkpoint", "disk": "on disk (memory-mapped)"}[storage]
    size = trainer.world_size
    nodes = f", {trainer.devices} on each of {trainer.num_nodes} machines" if trainer.num_nodes > 1 else ""
    shared = (
        f"ranks        {size} processes{nodes}; each has {config.env.num_envs // size} of the "
        f"environments, {config.batch_size // size} of the {config.batch_size} sequences of a batch and its own replay"
    )
    return "\n".join(
        [
            f"run_dir      {config.run_dir}",
            *([shared] if size > 1 else []),
            f"env          {config.env.name}, {config.env.obs}, {count} {place}, seed {config.seed}",
            f"observation  {describe_observation(agent.obs_space)}; action: {describe_action(agent.action_space)}",
            f"model        {config.model.name}; {how}",
            f"overlap      {overlap}",
            f"max_steps    {trainer.max_steps:,} environment steps (simulator control steps) = "
            f"{policy_steps:,.0f} policy steps x action repeat {repeat}",
            f"train_ratio  {ratio} replayed rows per policy step = one update of {config.batch_size} "
            f"x {config.batch_length} every {period} policy steps; about {config.num_updates:,.0f} updates in all",
            f"collect      {trainer.collect_steps:,} policy steps with random actions before the first update{never}",
            f"replay       {config.replay.capacity:,} policy steps = {gigabytes(replay_bytes)} when full, {where}",
        ]
    )


def fitted(text: str) -> str:
    """Lines of `describe_run` as standard output has room for: on one screen of a terminal, as they are elsewhere."""
    if not sys.stdout.isatty():
        return text
    columns, rows = size(sys.stdout)
    blocks: dict[str, list[str]] = {}
    for line in text.splitlines():
        key, _, words = line.partition(" ")
        blocks[key] = hanging(key, words.strip(), columns, INDENT)
    for key in DISPENSABLE:
        if sum(map(len, blocks.values())) <= rows - 2:  # the bar, and where the next command is typed
            break
        blocks.pop(key, None)
    lines = [line for block in blocks.values() for line in block]
    return "\n".join(painted(line[:INDENT], DIM, sys.stdout) + line[INDENT:] for line in lines)


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

"""Updates of an agent by some ranks, each in a process of its own, on rows that all of them know."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tiny import build_agent, build_batch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from dreamer import ranks
from dreamer.config.schema import ExploreConfig
from dreamer.training.module import DreamerModule, build_optimizer
from dreamer.types import Batch

ROWS = 4  # of a batch, all ranks together
DIRECTORY = str(Path(__file__).parents[1])  # of tiny.py


class Updates(DreamerModule):
    """Training steps without Lightning's trainer around them."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(build_agent(explore=ExploreConfig(name="disagreement")))
        self.laprop = build_optimizer(self.agent, self.agent.config)

    def apply_update(self) -> Tensor:
        self.laprop.step()
        return torch.zeros(())


def batch_of(agent: Any, number: int) -> Batch:
    """The rows of an update, as all ranks together see them."""
    torch.manual_seed(1000 + number)
    return build_batch(agent, rows=ROWS)


def part_of(batch: Batch) -> Batch:
    """The rows of this rank."""
    size = ROWS // ranks.world_size()
    mine = slice(ranks.rank() * size, (ranks.rank() + 1) * size)
    return Batch({key: value[mine] for key, value in batch.obs.items()}, *(value[mine] for value in batch[1:]))


def draw_as_one(name: str) -> None:
    """Have each rank draw the noise of all and take its own rows, which come first in every tensor."""
    plain = getattr(torch, name)

    def drawn(*args: Any, **words: Any) -> Tensor:
        x = args[0] if isinstance(args[0], Tensor) else None
        shape = tuple(x.shape if x is not None else args[0] if isinstance(args[0], torch.Size | tuple) else args)
        size = ranks.world_size()
        whole = (torch.randn if name == "randn_like" else plain)(size * shape[0], *shape[1:])
        return whole.chunk(size)[ranks.rank()].to(torch.get_default_dtype())

    setattr(torch, name, drawn)


def work(rank: int, size: int, directory: str, updates: int) -> None:
    """What one rank does: the gradient of the first update, and the agent after all of them, into a file."""
    sys.path.insert(0, DIRECTORY)
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if size > 1:
        dist.init_process_group("gloo", f"file://{directory}/meet_{size}", rank=rank, world_size=size)
    module = Updates()
    draw_as_one("rand")
    draw_as_one("randn_like")
    first: dict[str, Tensor] = {}
    for number in range(updates):
        batch = part_of(batch_of(module.agent, number))
        torch.manual_seed(number)
        module.training_step(batch, number)
        if number == 0:
            first = {name: p.grad.clone() for name, p in module.agent.named_parameters() if p.grad is not None}
    torch.save({"first": first, "agent": module.agent.state_dict()}, f"{directory}/{size}_{rank}.pt")


def updated(size: int, directory: Path, updates: int) -> list[dict[str, Any]]:
    """What each of `size` ranks has after so many updates."""
    spawn(work, (size, str(directory), updates), nprocs=size)
    return [torch.load(directory / f"{size}_{rank}.pt") for rank in range(size)]

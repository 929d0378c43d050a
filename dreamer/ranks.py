"""The processes of a run as one: what they must agree on. A run of one process is rank 0 of 1, and exchanges nothing.

Tensors of the CPU go by gloo and those of a GPU by NCCL, under the group that training/ranks/group.py has made. Every
rank calls these functions in the same order; each raises RankLost where another rank is gone or does not answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")
BUCKET_NBYTES = 2**25
"""Of gradients that are averaged in one message: large enough for the network, and small beside the agent."""


class RankLost(Exception):
    """Another process of the run has ended, or has not answered within trainer.rank_timeout."""


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_alone() -> bool:
    return world_size() == 1


def seed_of(seed: int) -> int:
    """`seed` for rank 0, and for each other rank one of its own, so that they draw different numbers."""
    return seed if rank() == 0 else int(np.random.SeedSequence(seed, spawn_key=(rank(),)).generate_state(1)[0])


def told() -> Any:
    """The stream for a line about this rank alone: what others than rank 0 say to standard output is not seen."""
    return sys.stdout if rank() == 0 else sys.stderr


def totals(*values: int) -> list[int]:
    """The sum over all ranks of each value."""
    if is_alone():
        return [int(value) for value in values]
    numbers = torch.tensor(values, dtype=torch.int64)
    with _answered():
        dist.all_reduce(numbers)
    return numbers.tolist()


def means(values: Sequence[float]) -> list[float]:
    """The mean over all ranks of each value."""
    if is_alone():
        return list(values)
    numbers = torch.tensor(values, dtype=torch.float64)
    with _answered():
        dist.all_reduce(numbers)
    return (numbers / world_size()).tolist()


def everyones(value: T) -> list[T]:
    """What each rank has, in their order; anything that pickle takes."""
    if is_alone():
        return [value]
    values: list[Any] = [None] * world_size()
    with _answered():
        dist.all_gather_object(values, value)
    return values


def of_first(value: T) -> T:
    """What rank 0 has."""
    if is_alone():
        return value
    values: list[Any] = [value]
    with _answered():
        dist.broadcast_object_list(values)
    return values[0]


def wait_for_all() -> None:
    """Return once every rank has come here."""
    totals(0)


@torch.no_grad()
def _joined(x: Tensor) -> Tensor:
    rows = x.new_empty(world_size() * len(x), *x.shape[1:])
    with _answered():
        dist.all_gather_single(rows, x.contiguous())
    return rows


joined: Callable[[Tensor], Tensor] = torch.compiler.disable(_joined)  # pyright: ignore[reportAssignmentType]
"""The rows [N ...] of all ranks, one rank after another; each has as many."""


@torch.no_grad()
def average_(tensors: Sequence[Tensor]) -> None:
    """Put the mean over all ranks into each tensor: one message for every BUCKET_NBYTES of them, the same bits
    everywhere."""
    if is_alone():
        return
    for bucket in buckets(tensors):
        flat = torch.cat([tensor.flatten() for tensor in bucket])
        with _answered():
            dist.all_reduce(flat)
        parts = flat.div_(world_size()).split([tensor.numel() for tensor in bucket])
        torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])


@torch.no_grad()
def copy_of_first_(tensors: Sequence[Tensor]) -> None:
    """Put what rank 0 has into each tensor."""
    if is_alone():
        return
    for tensor in tensors:
        with _answered():
            dist.broadcast(tensor, 0)


def buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in their order, in lists of one type of number and about BUCKET_NBYTES each."""
    bucket: list[Tensor] = []
    nbytes = 0
    for tensor in tensors:
        if bucket and (nbytes + tensor.nbytes > BUCKET_NBYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, nbytes = [], 0
        bucket.append(tensor)
        nbytes += tensor.nbytes
    if bucket:
        yield bucket


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # all that gloo and NCCL raise; their words name sockets and lines of C++
        raise RankLost(
            "Another process of this run has ended, or has not answered within trainer.rank_timeout"
        ) from error

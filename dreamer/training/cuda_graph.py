"""CUDA graphs: a function of tensors that the GPU repeats on its own, instead of one Python call for each kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree

WARM_UP = 3
"""Plain calls before the recording, in which libraries and torch.compile get ready."""


class Recording(NamedTuple):
    """A graph, the tensors that it reads, and what it returns."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    outputs: Any


class CudaGraph:
    """The same function, recorded at its fourth call with inputs of some shapes and replayed from then on.

    An update of a small network is thousands of kernels of a few microseconds each, and starting them from Python takes
    longer than they do. The function must read nothing from the device, and write to tensors in place alone; random
    numbers go on with torch's default generator. What it returns is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.calls: dict[tuple[Any, ...], int] = {}
        self.recordings: dict[tuple[Any, ...], Recording] = {}
        self.stream = torch.cuda.Stream()

    def __call__(self, *args: Any) -> Any:
        inputs, structure = _pytree.tree_flatten(args)
        key = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        if key not in self.recordings:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.calls[key] <= WARM_UP:
                return self.beside(lambda: self.function(*args))
            self.recordings[key] = self.record(inputs, structure)
        graph, own, outputs = self.recordings[key]
        torch._foreach_copy_(own, inputs)
        graph.replay()
        return outputs

    def beside(self, function: Callable[[], Any]) -> Any:
        """Run it on the stream of the recording, between what is queued on the current one before and after."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            result = function()
        current.wait_stream(self.stream)
        return result

    def record(self, inputs: list[Tensor], structure: _pytree.TreeSpec) -> Recording:
        """Nothing is computed here. Other threads, in which environments step, may go on with the GPU meanwhile."""
        own = [tensor.clone() for tensor in inputs]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            outputs = self.function(*_pytree.tree_unflatten(own, structure))
        return Recording(graph, own, outputs)

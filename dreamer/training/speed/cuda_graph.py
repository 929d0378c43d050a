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
    """A graph, the tensors that it reads and how they were arranged, and what it returns."""

    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor]
    structure: _pytree.TreeSpec
    outputs: Any


class CudaGraph:
    """The same function, recorded at its fourth call with inputs of some shapes and replayed from then on.

    An update of a small network is thousands of kernels of a few microseconds each, and starting them from Python takes
    longer than they do. What Python does in the function, it does up to the recording: a number that changes from
    call to call keeps the value it had then, and only tensors written in place go on. The function must not read
    from the device (`.item()`, `print`). Random numbers go on with torch's default generator. What it returns is
    overwritten by the next call. A function called in inference mode must always be. While it is recorded, no autograd
    graph through its parameters may be alive that was built elsewhere (a loss that someone keeps).

    has_one_shape: RuntimeError at inputs of a second shape, for a function that leaves tensors of its recording
    elsewhere than in what it returns, as gradients in parameters.
    """

    def __init__(self, function: Callable[..., Any], has_one_shape: bool = False) -> None:
        self.function, self.has_one_shape = function, has_one_shape
        self.calls: dict[tuple[Any, ...], int] = {}
        self.recordings: dict[tuple[Any, ...], Recording] = {}
        self.stream = torch.cuda.Stream()

    def __call__(self, *args: Any) -> Any:
        inputs, structure = _pytree.tree_flatten(args)
        if not all(isinstance(part, Tensor) for part in inputs):
            return self.function(*args)  # an absent noise: the likeliest action, which no run asks for often
        key = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        if key not in self.recordings:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.has_one_shape and len(self.calls) > 1:
                raise RuntimeError(f"Recorded for one shape, called with a second: {list(self.calls)}")
            if self.calls[key] <= WARM_UP:
                return self.beside(lambda: self.function(*args))
            self.recordings[key] = self.record(inputs, structure)
        recording = self.recordings[key]
        assert structure == recording.structure, (structure, recording.structure)
        torch._foreach_copy_(recording.inputs, inputs)
        recording.graph.replay()
        return recording.outputs

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
        return Recording(graph, own, structure, outputs)

"""Linear layers inside a loop over time, whose weight gradients come in one product after the loop.

Backpropagation through T steps would otherwise make T small weight gradients and add them up, which costs more than
the steps themselves: the sum over time of x_t^T dy_t is one product of the stacked x and dy. The result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor


class Affine(NamedTuple):
    """y = bias + sum of products: x W^T where a weight is [out, in], block by block where it is [G, in/G, out/G].

    bias [out]; inside a loop [T B out], what each step adds. Every weight has an input of its own.
    """

    weights: tuple[Tensor, ...]
    bias: Tensor

    def to(self, dtype: torch.dtype) -> Affine:
        return Affine(tuple(weight.to(dtype) for weight in self.weights), self.bias.to(dtype))


def affine(layer: Affine, *inputs: Float[Tensor, "N _"]) -> Float[Tensor, "N out"]:
    y = layer.bias
    for weight, x in zip(layer.weights, inputs, strict=True):
        y = torch.addmm(y, x, weight.T) if weight.dim() == 2 else y + block_product(x, weight)
    return y


def block_product(x: Float[Tensor, "N in"], weight: Float[Tensor, "G c d"]) -> Float[Tensor, "N out"]:
    """Each of G contiguous chunks of x times its own matrix."""
    chunks = x.unflatten(-1, weight.shape[:2]).transpose(0, 1)
    return torch.bmm(chunks, weight).transpose(0, 1).flatten(1)


def apply(layers: Mapping[str, Affine]) -> Callable[..., Tensor]:
    """apply(layers)(name, inputs): one layer by its name."""
    return lambda name, *inputs: affine(layers[name], *inputs)


class Step:
    """The layers of one step: step(name, inputs) applies one and keeps what went in, as `inputs`."""

    def __init__(self, weights: dict[str, tuple[Tensor, ...]], biases: dict[str, Tensor]) -> None:
        self.weights, self.biases = weights, biases
        self.inputs: dict[str, tuple[Tensor, ...]] = {}

    def __call__(self, name: str, *inputs: Float[Tensor, "N _"]) -> Float[Tensor, "N out"]:
        bias = self.biases[name]
        inputs = tuple(x.to(bias.dtype) for x in inputs)
        self.inputs[name] = tuple(x.detach() for x in inputs)
        return affine(Affine(self.weights[name], bias), *inputs)


class Loop:
    """The layers of a loop of T steps over N rows, computed in `dtype`; weight gradients are deferred to its end.

    Step t takes `weights` and `biases[t]`, and hands what went into its layers to `record`.
    """

    def __init__(self, layers: Mapping[str, Affine], steps: int, rows: int, dtype: torch.dtype) -> None:
        self.weights: dict[str, tuple[Tensor, ...]] = {}
        self.biases: list[dict[str, Tensor]] = [{} for _ in range(steps)]
        self.inputs: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in layers}
        for name, layer in layers.items():
            weights, bias = layer.to(dtype)
            sequence = bias if bias.dim() == 3 else bias.expand(steps, rows, -1)
            if torch.is_grad_enabled():
                sequence = cast(Tensor, _DeferWeightGrad.apply(self.inputs[name], sequence, *weights))
            self.weights[name] = tuple(weight.detach() for weight in weights)
            for step, row in zip(self.biases, sequence.unbind(0), strict=True):
                step[name] = row

    def record(self, inputs: dict[str, tuple[Tensor, ...]]) -> None:
        if torch.is_grad_enabled():
            for name, values in inputs.items():
                self.inputs[name].append(values)


class _DeferWeightGrad(torch.autograd.Function):
    """Passes the biases [T B out] of all steps through. Their gradient is that of the layer's outputs, so here, after
    the last step has been differentiated, it meets the inputs of all steps."""

    @staticmethod
    def forward(ctx: Any, inputs: list[tuple[Tensor, ...]], biases: Tensor, *weights: Tensor) -> Tensor:
        ctx.inputs, ctx.shapes = inputs, [weight.shape for weight in weights]
        return biases.view_as(biases)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,) = grads
        dy = grad.flatten(0, 1)
        xs = [torch.cat(steps) for steps in zip(*ctx.inputs, strict=True)]
        return None, grad, *(_weight_grad(x, dy, shape) for x, shape in zip(xs, ctx.shapes, strict=True))


def _weight_grad(x: Float[Tensor, "M in"], dy: Float[Tensor, "M out"], shape: torch.Size) -> Tensor:
    if len(shape) == 2:
        return dy.T @ x
    blocks, chunk, out = shape
    return torch.bmm(x.unflatten(1, (blocks, chunk)).permute(1, 2, 0), dy.unflatten(1, (blocks, out)).transpose(0, 1))

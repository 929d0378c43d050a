"""Layers in a loop over time: deferred weight gradients against those that autograd adds up step by step."""

import pytest
import torch
from torch import Tensor, nn

from dreamer.nn.layers import BlockLinear, Linear
from dreamer.nn.through_time import Affine, Loop, Step, apply

T, N = 5, 3


@pytest.fixture
def layers() -> nn.ModuleDict:
    parts = nn.ModuleDict({"dense": Linear(6, 8), "shared": BlockLinear(8, 6, blocks=2, shared=4)})
    for param in parts.parameters():
        nn.init.normal_(param, std=0.5)
    return parts


def gradients(layers: nn.ModuleDict, outputs: list[Tensor], extra: Tensor) -> list[Tensor]:
    total = sum((output * (t + 1)).square().sum() for t, output in enumerate(outputs))
    return list(torch.autograd.grad(total, [*layers.parameters(), extra]))


def test_deferred_weight_gradients_equal_those_added_up_step_by_step(layers: nn.ModuleDict) -> None:
    start, context, extra = torch.randn(N, 6), torch.randn(T, N, 4), torch.randn(T, N, 8, requires_grad=True)
    affine = {name: layer.affine() for name, layer in layers.items()}

    x, expected = start, []
    for t in range(T):
        dense = apply({"dense": Affine(affine["dense"].weights, layers["dense"].bias + extra[t])})
        x = apply(affine)("shared", torch.tanh(dense("dense", x)), context[t])
        expected.append(x)

    loop = Loop({**affine, "dense": Affine(affine["dense"].weights, layers["dense"].bias + extra)}, T, N, torch.float32)
    x, got = start, []
    for t in range(T):
        step = Step(loop.weights, loop.biases[t])
        x = step("shared", torch.tanh(step("dense", x)), context[t])
        loop.record(step.inputs)
        got.append(x)

    torch.testing.assert_close(torch.stack(got), torch.stack(expected))
    for ours, theirs in zip(gradients(layers, got, extra), gradients(layers, expected, extra), strict=True):
        assert ours.abs().sum() > 0
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nothing_is_kept_where_no_gradient_is_asked_for(layers: nn.ModuleDict) -> None:
    with torch.no_grad():
        loop = Loop({"dense": layers["dense"].affine()}, 1, N, torch.float32)
        step = Step(loop.weights, loop.biases[0])
        x = torch.randn(N, 6)
        torch.testing.assert_close(step("dense", x), layers["dense"](x))
        loop.record(step.inputs)
    assert loop.inputs == {"dense": []}


def test_a_loop_in_bfloat16_has_float32_weight_gradients(layers: nn.ModuleDict) -> None:
    loop = Loop({"dense": layers["dense"].affine()}, 1, N, torch.bfloat16)
    step = Step(loop.weights, loop.biases[0])
    y = step("dense", torch.randn(N, 6))
    loop.record(step.inputs)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    grad = layers["dense"].weight.grad
    assert grad is not None and grad.dtype == torch.float32 and grad.abs().sum() > 0

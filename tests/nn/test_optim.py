"""LaProp against the specification in float64, one number at a time."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from dreamer.nn.optim import LaProp

SHAPES = ((3, 4), (5,), (2, 2, 2))
RATES = (0.1, 0.02, 0.5)


class SlowLaProp:
    """Section 8 for one tensor."""

    def __init__(self, value: np.ndarray, lr: float, warmup: int) -> None:
        self.value, self.lr, self.warmup = value.astype(np.float64).copy(), lr, warmup
        self.v, self.m, self.t = np.zeros_like(self.value), np.zeros_like(self.value), 0

    def step(self, gradient: np.ndarray) -> None:
        size = max(1e-3, float(np.sqrt((self.value**2).sum())))
        excess = float(np.sqrt((gradient**2).sum())) / (0.3 * size)
        rate = self.lr * min(1.0, self.t / self.warmup)
        self.t += 1
        for i, entry in np.ndenumerate(gradient / max(1.0, excess)):
            self.v[i] = 0.999 * self.v[i] + 0.001 * entry**2
            u = entry / (np.sqrt(self.v[i] / (1 - 0.999**self.t)) + 1e-20)
            self.m[i] = 0.9 * self.m[i] + 0.1 * u
            self.value[i] -= rate * self.m[i] / (1 - 0.9**self.t)


def parameters() -> list[nn.Parameter]:
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    tensors[1].zero_()  # a bias at the start: clipped by the floor of its norm
    return [nn.Parameter(tensor) for tensor in tensors]


def optimizer_of(params: list[nn.Parameter]) -> LaProp:
    return LaProp([{"params": [p], "lr": lr} for p, lr in zip(params, RATES, strict=True)], warmup=3)


def set_gradients(params: list[nn.Parameter], step: int) -> None:
    """Some far above what clipping allows, some far below."""
    generator = torch.Generator().manual_seed(step)
    for p in params:
        p.grad = 10.0 ** (step % 4 - 2) * torch.randn(p.shape, generator=generator, dtype=torch.float64)


def test_several_steps_in_groups_of_different_rates() -> None:
    params = parameters()
    slow = [SlowLaProp(p.detach().numpy(), lr, warmup=3) for p, lr in zip(params, RATES, strict=True)]
    optimizer = optimizer_of(params)
    for step in range(9):
        set_gradients(params, step)
        for reference, p in zip(slow, params, strict=True):
            assert p.grad is not None
            reference.step(p.grad.numpy().copy())
        optimizer.step()
        for reference, p in zip(slow, params, strict=True):
            np.testing.assert_allclose(p.detach().numpy(), reference.value, rtol=1e-10, atol=1e-12)


def test_the_first_update_is_zero_with_a_warm_up_and_full_without() -> None:
    for warmup, moved in ((5, 0.0), (0, 0.1)):
        p = nn.Parameter(torch.ones(3))
        optimizer = LaProp([p], lr=0.1, warmup=warmup)
        p.grad = torch.tensor([1e-3, -1e-3, 1e-3])
        optimizer.step()
        # The first normalised gradient is +-1.
        torch.testing.assert_close(p.detach(), 1 - moved * torch.tensor([1.0, -1.0, 1.0]))


def test_a_resumed_optimizer_continues_identically() -> None:
    params = parameters()
    optimizer = optimizer_of(params)
    resumed: list[nn.Parameter] = []
    other = optimizer
    for step in range(7):
        if step == 2:  # inside the warm-up
            resumed = [nn.Parameter(p.detach().clone()) for p in params]
            other = optimizer_of(resumed)
            other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        set_gradients(params, step)
        optimizer.step()
        if resumed:
            set_gradients(resumed, step)
            other.step()
    for p, q in zip(params, resumed, strict=True):
        assert torch.equal(p, q)


def test_a_parameter_without_gradient_is_left_alone() -> None:
    used, unused = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
    before = unused.detach().clone()
    optimizer = LaProp([used, unused], lr=0.1, warmup=0)
    for _ in range(3):
        used.grad = torch.randn(3)
        optimizer.step()
    assert torch.equal(unused, before)
    assert unused not in optimizer.state


def test_a_gradient_of_zero_gives_no_nan() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = LaProp([p], lr=0.1, warmup=0)
    p.grad = torch.zeros(3)
    optimizer.step()
    assert torch.equal(p.detach(), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_step_length_does_not_depend_on_the_size_of_the_gradient(dtype: torch.dtype) -> None:
    moved = []
    for scale in (1e-6, 1e-2):  # both below what clipping allows
        p = nn.Parameter(torch.ones(4, dtype=dtype))
        optimizer = LaProp([p], lr=0.1, warmup=0)
        for sign in (1, -1, 1):
            p.grad = scale * sign * torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=dtype)
            optimizer.step()
        moved.append(p.detach())
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-4, atol=1e-6)

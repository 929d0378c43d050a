"""LaProp with adaptive gradient clipping: the authors' optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def clip_to_parameters_(grads: list[Tensor], params: list[Tensor], ratio: float, floor: float = 1e-3) -> None:
    """Adaptive gradient clipping: g <- g / max(1, |g| / (ratio * max(floor, |p|))), norms over the whole tensor."""
    limits = torch._foreach_norm(params)
    torch._foreach_clamp_min_(limits, floor)
    torch._foreach_mul_(limits, ratio)
    excess = torch._foreach_div(torch._foreach_norm(grads), limits)
    torch._foreach_clamp_min_(excess, 1.0)
    torch._foreach_div_(grads, excess)


class LaProp(Optimizer):
    """Momentum over normalised gradients, after adaptive gradient clipping and with a linear warm-up.

    v <- b2 v + (1 - b2) g^2;  u = g / (sqrt(v / (1 - b2^t)) + eps);  m <- b1 m + (1 - b1) u;
    p <- p - lr min(1, (t - 1) / warmup) m / (1 - b1^t).  With a warm-up the first update is zero.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 4e-5,
        agc: float = 0.3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-20,
        warmup: int = 1000,
    ) -> None:
        super().__init__(params, {"lr": lr, "agc": agc, "betas": betas, "eps": eps, "warmup": warmup, "update": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self.step_group(group)
        return loss

    def step_group(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        if not params:
            return
        grads = [p.grad for p in params]
        for p in params:
            if p not in self.state:
                self.state[p] = {"mu": torch.zeros_like(p), "nu": torch.zeros_like(p)}
        mus, nus = [self.state[p]["mu"] for p in params], [self.state[p]["nu"] for p in params]
        (beta1, beta2), before = group["betas"], group["update"]
        group["update"] = t = before + 1
        lr = group["lr"] * (min(1.0, before / group["warmup"]) if group["warmup"] else 1.0)
        if group["agc"]:
            clip_to_parameters_(grads, params, group["agc"])
        torch._foreach_mul_(nus, beta2)
        torch._foreach_addcmul_(nus, grads, grads, value=1 - beta2)
        scaled = torch._foreach_div(nus, 1 - beta2**t)
        torch._foreach_sqrt_(scaled)
        torch._foreach_add_(scaled, group["eps"])
        torch._foreach_lerp_(mus, torch._foreach_div(grads, scaled), 1 - beta1)
        torch._foreach_add_(params, mus, alpha=-lr / (1 - beta1**t))

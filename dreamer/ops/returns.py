"""Lambda-returns and the weights of imagined steps."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def lambda_return(
    reward: Float[Tensor, "N T"],
    cont: Float[Tensor, "N T"],
    value: Float[Tensor, "N T"],
    lambda_: float,
    discount: float = 1.0,
    is_last: Bool[Tensor, "N T"] | None = None,
) -> Float[Tensor, "N T-1"]:
    """The paper's lambda-return; index t belongs to the state at t, reward[t] came on arriving there.

    ret[t] = reward[t+1] + discount cont[t+1] ((1 - l) value[t+1] + l ret[t+1]),  ret[T-1] = value[T-1]
    with l = lambda_, or 0 where is_last[t+1]: what follows the final row belongs to another episode.
    """
    live = discount * cont[:, 1:]
    mix = torch.full_like(live, lambda_) if is_last is None else lambda_ * (~is_last[:, 1:]).to(live.dtype)
    direct = reward[:, 1:] + live * (1 - mix) * value[:, 1:]
    through = live * mix
    ret, rets = value[:, -1], []
    for t in reversed(range(direct.shape[1])):
        ret = direct[:, t] + through[:, t] * ret
        rets.append(ret)
    return torch.stack(rets[::-1], dim=1)


def survival(cont: Float[Tensor, "N T"]) -> Float[Tensor, "N T"]:
    """Weight of each imagined step: the probability of getting there, discount included, w_t = prod_{i<=t} c_i.

    c_0 is included, so that starts which are terminal count for nothing.
    """
    return torch.cumprod(cont, dim=1)

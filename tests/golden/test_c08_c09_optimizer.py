"""Parity of LaProp, adaptive gradient clipping, the warm-up, and the slow critic."""

import numpy as np
import pytest
import torch
from torch import nn

from dreamer.behavior.actor_critic import SlowCopy
from dreamer.nn.optim import LaProp, clip_to_parameters_


@pytest.mark.parametrize("case", ["default", "fast", "nowarm"])
def test_optimizer_steps(golden, case):
    g = golden("c08_optimizer")
    lr, agc, eps, beta1, beta2, warmup = g.array(f"{case}_hyper").tolist()
    names = [name.removeprefix("p0/") for name in g.names("p0/")]
    params = {name: nn.Parameter(g.tensor(f"p0/{name}")) for name in names}
    optimizer = LaProp(params.values(), lr, agc, (beta1, beta2), eps, int(warmup))
    got: dict[str, list] = {f"{kind}/{name}": [] for kind in ("params", "updates", "nu", "mu") for name in names}
    for step in range(g.array(f"{case}_g/{names[0]}").shape[0]):
        before = {name: p.detach().double().clone() for name, p in params.items()}
        for name, p in params.items():
            p.grad = g.tensor(f"{case}_g/{name}")[step].clone()
        optimizer.step()
        for name, p in params.items():
            got[f"params/{name}"].append(p.detach().numpy().copy())
            got[f"updates/{name}"].append((p.detach().double() - before[name]).numpy())
            got[f"nu/{name}"].append(optimizer.state[p]["nu"].numpy().copy())
            got[f"mu/{name}"].append(optimizer.state[p]["mu"].numpy().copy())
    for name in names:
        g.close(f"{case}_params/{name}", np.array(got[f"params/{name}"]), 0.0, 2e-7 + 2e-4 * lr)
        g.close(f"{case}_nu/{name}", np.array(got[f"nu/{name}"]), 2e-4, 1e-12)
        g.close(f"{case}_mu/{name}", np.array(got[f"mu/{name}"]), 2e-4, 1e-5)
        # A difference of float32 parameters carries their rounding, half an ulp of numbers of order 1.
        g.close(f"{case}_updates/{name}", np.array(got[f"updates/{name}"]), 2e-4, 1e-5 * lr + 2.5e-7)


def test_first_update_is_zero_and_the_rate_grows(golden):
    g = golden("c08_optimizer")
    for step, expected in zip(g.array("lr_steps").tolist(), g.array("lr_values").tolist(), strict=True):
        param = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = LaProp([param], lr=4e-5, agc=0.0, betas=(0.0, 0.0), warmup=1000)
        optimizer.param_groups[0]["update"] = step
        param.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        assert -param.item() == pytest.approx(expected, rel=2e-4, abs=1e-12)  # the normalised gradient is 1


def test_adaptive_gradient_clipping(golden):
    g = golden("c08_optimizer")
    names = [name.removeprefix("p0/") for name in g.names("p0/")]
    agc = float(g.array("default_hyper")[1])
    for case in sorted({name.split("_")[0] for name in g.names("agc")}):
        grads = [g.tensor(f"{case}_g/{name}") for name in names]
        clip_to_parameters_(grads, [g.tensor(f"p0/{name}") for name in names], agc)
        for name, grad in zip(names, grads, strict=True):
            g.close(f"{case}_out/{name}", grad, 2e-4, 1e-9)


@pytest.mark.parametrize("case", ["every1", "every3"])
def test_slow_critic(golden, case):
    g = golden("c09_slow_value")
    rate, every = g.array(f"{case}_rate_every").tolist()
    names = [name.removeprefix(f"{case}_init/") for name in g.names(f"{case}_init/")]
    source = nn.ParameterList([nn.Parameter(g.tensor(f"{case}_init/{name}")) for name in names])
    slow = SlowCopy(source, rate, int(every))
    for step in range(g.array(f"{case}_source/{names[0]}").shape[0]):
        with torch.no_grad():
            for param, name in zip(source, names, strict=True):
                param.copy_(g.tensor(f"{case}_source/{name}")[step])
        slow.track(source)
        for param, name in zip(slow.module.parameters(), names, strict=True):
            expected = g.tensor(f"{case}_slow/{name}")[step]
            assert torch.allclose(param, expected, rtol=1e-6, atol=1e-6), (name, step)

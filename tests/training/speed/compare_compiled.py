"""Exits with an error unless a compiled update and policy step compute what the plain ones do; takes a word: explore.

A process of its own, without pytest: torch.compile cannot trace the shape checks that tests switch on.
"""

import sys

import numpy as np
import torch
from tiny import VECTORS, build_agent, build_batch, values

from dreamer.agent import Agent
from dreamer.config.schema import ExploreConfig
from dreamer.ops.symlog import symexp_bins, two_hot_mean
from dreamer.training.module import DreamerModule, build_optimizer
from dreamer.training.speed.compiling import compile_parts, compiled


class OneUpdate(DreamerModule):
    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.optimizer = build_optimizer(agent, agent.config)

    def optimizers(self):
        return self.optimizer

    def apply_update(self):
        self.gradients = {name: p.grad.clone() for name, p in self.agent.named_parameters() if p.grad is not None}
        self.optimizer.step()
        return torch.zeros(())


def act(agent: Agent) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Action, deter and stoch of the second of two policy steps in three environments."""
    torch.manual_seed(5)
    obs = {key: values(space, 3).numpy() for key, space in VECTORS.items()}
    draw = torch.Generator().manual_seed(6)
    is_first = np.array([True, False, True])
    action, latent = agent.act(obs, agent.initial(3), np.ones((3, 2), np.float32), is_first, draw)
    action, latent = agent.act(obs, latent, action, ~is_first, draw)
    return action, latent["deter"], latent["stoch"]


def compare_two_hot_means() -> None:
    """At the size that agents have; the compiler once made a wrong gradient of the same mean, written otherwise."""
    bins, logits = symexp_bins(255), 3 * torch.randn(20, 9, 255)
    grads = []
    for mean in (two_hot_mean, compiled(two_hot_mean)):
        leaf = logits.clone().requires_grad_()
        grads.append(torch.autograd.grad(mean(leaf, bins).square().sum(), leaf)[0])
    torch.testing.assert_close(grads[1], grads[0], rtol=1e-3, atol=1e-4 * float(grads[0].abs().max()))


def compare(use_dynamics: bool, explore: str = "policy") -> None:
    outputs, gradients, acted = {}, {}, {}
    for is_compiled in (False, True):
        torch.manual_seed(3)
        agent = build_agent(VECTORS, explore=ExploreConfig(name=explore))
        agent.actor_critic.use_dynamics = use_dynamics
        module = OneUpdate(agent)
        batch = build_batch(module.agent)
        if is_compiled:
            compile_parts(module)
        acted[is_compiled] = act(module.agent)
        torch.manual_seed(4)  # both draw the same latents and actions
        outputs[is_compiled], gradients[is_compiled] = module.training_step(batch, 0), module.gradients
    np.testing.assert_array_equal(acted[True][2], acted[False][2])
    for got, expected in zip(acted[True][:2], acted[False][:2], strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    assert outputs[True]["stoch"].equal(outputs[False]["stoch"])
    torch.testing.assert_close(outputs[True]["deter"], outputs[False]["deter"], rtol=1e-4, atol=1e-5)
    for name, expected in outputs[False]["metrics"].items():
        torch.testing.assert_close(outputs[True]["metrics"][name], expected, rtol=1e-3, atol=1e-4, msg=name)
    assert gradients[True].keys() == gradients[False].keys()
    for name, expected in gradients[False].items():
        scale = float(expected.abs().max())
        torch.testing.assert_close(gradients[True][name], expected, rtol=1e-2, atol=1e-3 * scale + 1e-7, msg=name)


if __name__ == "__main__":
    if sys.argv[1] == "policy":
        compare_two_hot_means()
        compare(use_dynamics=False)
    compare(use_dynamics=True, explore=sys.argv[1])

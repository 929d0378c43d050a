"""CUDA graphs: replayed updates and policy steps compute what the plain ones do, with the same random numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny import BOTH, build_agent, build_batch, values

from dreamer.agent import Agent
from dreamer.training.compiling import record_graphs, uses_graphs
from dreamer.training.cuda_graph import WARM_UP
from dreamer.training.module import DreamerModule, build_optimizer
from dreamer.types import Batch

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class OneUpdate(DreamerModule):
    """The real update, without a Trainer."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        self.optimizer = build_optimizer(agent, agent.config)

    def backpropagate(self, total):
        self.agent.zero_grad()
        total.backward()

    def apply_update(self):
        self.optimizer.step()
        return torch.stack([p.grad.norm() for p in self.agent.parameters() if p.grad is not None]).norm()


def on_device(batch: Batch) -> Batch:
    moved = {key: value.cuda() for key, value in batch.obs.items()}
    return Batch(moved, *(part.cuda() for part in batch[1:]))


@pytest.mark.gpu
@needs_cuda
def test_replayed_updates_are_the_plain_ones():
    plain = OneUpdate(build_agent(BOTH).cuda())
    recorded = OneUpdate(copy.deepcopy(plain.agent))
    record_graphs(recorded)
    for index in range(WARM_UP + 4):  # the last three are replayed
        batch = on_device(build_batch(plain.agent))
        outputs = []
        for module in (plain, recorded):
            torch.manual_seed(index)
            outputs.append(module.training_step(batch, index))
        expected, got = outputs
        for name, value in expected["metrics"].items():
            torch.testing.assert_close(
                got["metrics"][name], value, rtol=1e-3, atol=1e-4, msg=f"{name} in update {index}"
            )
        assert got["stoch"].equal(expected["stoch"]), index
    assert recorded.differentiate.recordings, "nothing was recorded"
    for (name, expected), got in zip(plain.agent.named_parameters(), recorded.agent.parameters(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.gpu
@needs_cuda
def test_replayed_policy_steps_are_the_plain_ones_for_any_number_of_environments():
    plain = build_agent(BOTH).cuda()
    recorded = OneUpdate(copy.deepcopy(plain)).agent
    record_graphs(OneUpdate(recorded))
    for num_envs in (1, 3):
        latents = [plain.initial(num_envs), plain.initial(num_envs)]
        action = np.zeros((num_envs, 2), np.float32)
        for step in range(WARM_UP + 3):
            obs = {key: values(space, num_envs).numpy() for key, space in BOTH.items()}
            is_first = np.full(num_envs, step == 0)
            results = []
            for agent, latent in zip((plain, recorded), latents, strict=True):
                draw = torch.Generator("cuda").manual_seed(step)
                results.append(agent.act(obs, latent, action, is_first, draw))
            (action, first), (other, second) = results
            np.testing.assert_allclose(other, action, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(second["stoch"], first["stoch"])
            latents = [first, second]


def test_there_are_graphs_on_cuda_alone():
    cuda, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert [uses_graphs(wish, device) for wish in (True, False) for device in (cuda, cpu)] == [
        True, False, False, False,
    ]  # fmt: skip

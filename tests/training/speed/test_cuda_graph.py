"""CUDA graphs: replayed updates and policy steps compute what the plain ones do, with the same random numbers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import move_data_to_device
from tiny import BOTH, build_agent, build_batch, values

from dreamer import ranks
from dreamer.agent import Agent
from dreamer.config.schema import ExploreConfig
from dreamer.training import random_state
from dreamer.training.module import DreamerModule, build_optimizer
from dreamer.training.speed.compiling import record_acting, record_graphs, uses_graphs
from dreamer.training.speed.cuda_graph import WARM_UP

ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


def on_gpu(test):
    for mark in ON_GPU:
        test = mark(test)
    return test


class OneUpdate(DreamerModule):
    """The real update without a Trainer; no free nats and no warm-up, so that each moves every parameter."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(agent)
        agent.config.free_nats, agent.config.optim.lr, agent.config.optim.warmup = 0.0, 1e-3, 0
        self.optimizer = build_optimizer(agent, agent.config)

    def apply_update(self):
        norms = [p.grad.norm() for p in self.agent.parameters() if p.grad is not None]
        self.optimizer.step()
        return torch.stack(norms).norm()


def check_updates(plain: OneUpdate, other: OneUpdate, updates: int) -> None:
    """Both make the same updates, each with random numbers that go on from its last; compared after each."""
    before = {name: p.detach().clone() for name, p in plain.agent.named_parameters() if p.requires_grad}
    device = plain.agent.device
    torch.manual_seed(7)
    states = [random_state.get_state(device)] * 2
    close = {"rtol": 1e-3, "atol": 1e-4}
    for index in range(updates):
        batch = move_data_to_device(build_batch(plain.agent), device)
        outputs = []
        for i, module in enumerate((plain, other)):
            random_state.set_state(states[i], device)
            outputs.append(module.training_step(batch, index))
            states[i] = random_state.get_state(device)
        expected, got = outputs
        for name, state in states[0].items():
            assert states[1][name].equal(state), f"random numbers of {name} differ after update {index}"
        for name, value in expected["metrics"].items():
            torch.testing.assert_close(got["metrics"][name], value, **close, msg=f"{name} in update {index}")
        assert got["stoch"].equal(expected["stoch"]), index
        torch.testing.assert_close(got["deter"], expected["deter"], **close)
        compare_parameters(before, plain.agent, other.agent, index)


@torch.no_grad()  # a graph through the parameters, alive while an update is recorded, breaks the recording
def compare_parameters(before: dict[str, torch.Tensor], plain: Agent, other: Agent, index: int) -> None:
    """By means over a tensor: where a gradient is near zero, rounding decides about the sign of a whole step."""
    for (name, p), q in zip(plain.named_parameters(), other.parameters(), strict=True):
        if name in before:
            off, size = (q.grad - p.grad).abs().mean(), p.grad.abs().mean()
            assert off <= 0.02 * size, f"gradient of {name} in update {index}"
            off, moved = (q - p).abs().mean(), (p - before[name]).abs().mean()
            assert moved > 0 and off <= 0.1 * moved, f"{name} after update {index}"


@on_gpu
@pytest.mark.parametrize("use_dynamics, explore", [(False, "policy"), (True, "policy"), (True, "disagreement")])
def test_replayed_updates_are_the_plain_ones(use_dynamics, explore):
    plain = OneUpdate(build_agent(BOTH, explore=ExploreConfig(name=explore)).cuda())
    plain.agent.actor_critic.use_dynamics = use_dynamics
    recorded = OneUpdate(copy.deepcopy(plain.agent))
    record_graphs(recorded)
    check_updates(plain, recorded, WARM_UP + 4)  # the last four are replayed
    assert len(recorded.differentiate.recordings) == 1
    with pytest.raises(RuntimeError, match="one shape"):
        recorded.training_step(move_data_to_device(build_batch(plain.agent, rows=3), plain.agent.device), 0)


@on_gpu
def test_a_rank_records_what_it_exchanges(tmp_path, monkeypatch):
    """In a group of one process that takes itself for several: NCCL's part is in the recording, or beside it."""
    meet = f"file://{tmp_path}/meet"
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl", init_method=meet, rank=0, world_size=1)
    try:
        plain = OneUpdate(build_agent(BOTH, explore=ExploreConfig(name="disagreement")).cuda())
        recorded = OneUpdate(copy.deepcopy(plain.agent))
        record_graphs(recorded)
        monkeypatch.setattr(ranks, "is_alone", lambda: False)
        check_updates(plain, recorded, WARM_UP + 4)
    finally:
        torch.distributed.destroy_process_group()


def test_the_comparison_tells_updates_apart():
    """The check above, on this machine: an agent passes beside its copy, and not beside one that does not learn."""
    plain = OneUpdate(build_agent(BOTH))
    check_updates(plain, OneUpdate(copy.deepcopy(plain.agent)), 2)
    still = OneUpdate(copy.deepcopy(plain.agent))
    still.optimizer.param_groups[0]["lr"] = 0.0
    with pytest.raises(AssertionError, match="after update 0"):
        check_updates(plain, still, 1)


@pytest.mark.parametrize(
    ("device", "is_recorded"),
    [("cpu", False), pytest.param("cuda", False, marks=ON_GPU), pytest.param("cuda", True, marks=ON_GPU)],
)
@pytest.mark.parametrize("use_dynamics", [False, True])
def test_in_bfloat16_every_parameter_has_a_gradient(device, is_recorded, use_dynamics):
    agent = build_agent(BOTH)
    agent.actor_critic.use_dynamics = use_dynamics
    agent.precision = "bfloat16"
    module = OneUpdate(agent.to(device))
    if is_recorded:
        record_graphs(module)
    for index in range(WARM_UP + 2):
        module.training_step(move_data_to_device(build_batch(agent), agent.device), index)
    for name, p in agent.named_parameters():
        assert not p.requires_grad or (p.grad is not None and p.grad.abs().sum() > 0), name


@on_gpu
def test_replayed_policy_steps_are_the_plain_ones_for_any_number_of_environments():
    plain = build_agent(BOTH).cuda()
    recorded = copy.deepcopy(plain)
    record_acting(recorded)
    for num_envs in (1, 3, 1):
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

"""The agent in several environments at once: the same latents as in training, resets apart, actions in range."""

import numpy as np
import pytest
import torch
from tiny import (
    ACTIONS,
    BOTH,
    CONTINUOUS,
    OBSERVATIONS,
    VECTORS,
    build_agent,
    build_batch,
    has_gradient,
    model_config,
    values,
)
from torch import Tensor

from dreamer.agent import Agent
from dreamer.nn import distributions
from dreamer.types import LatentArrays, Space
from dreamer.world_model.world_model import action_vector

N, T = 3, 5


def arrays(obs: dict[str, Tensor], t: int) -> dict[str, np.ndarray]:
    return {key: value[:, t].numpy() for key, value in obs.items()}


@pytest.fixture
def no_resets() -> np.ndarray:
    return np.zeros(N, bool)


@pytest.mark.parametrize("obs", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_acting_step_by_step_equals_filtering_the_sequence(
    obs: str, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributions, "sample_index", lambda probs, noise=None: probs.argmax(-1))
    space = ACTIONS[action]
    agent = build_agent(OBSERVATIONS[obs], space, standardize_vectors=True)
    seen = {key: values(part, N, T) for key, part in agent.obs_space.items()}
    agent.world_model.standardize.fit({key: 5 * value.flatten(0, 1) + 2 for key, value in seen.items()})
    is_first = torch.zeros(N, T, dtype=torch.bool)
    is_first[:, 0] = is_first[1, 3] = True
    latent, prev = agent.initial(N), np.zeros((N, *space.shape), space.dtype)
    latents, actions = [], []
    for t in range(T):
        actions.append(torch.from_numpy(prev))
        prev, latent = agent.act(arrays(seen, t), latent, prev, is_first[:, t].numpy())
        latents.append(latent)
        assert prev.shape == (N, *space.shape)
        assert prev.dtype == np.dtype(space.dtype)
    model = agent.world_model
    with torch.no_grad():
        prev_action = action_vector(torch.stack(actions, 1), space)
        unseen = model.context(torch.from_numpy(latent["deter"]), torch.from_numpy(latent["stoch"]).long())
        whole, _ = model.rssm.observe(model.encoder(model.standardize(seen)), prev_action, is_first, unseen)
    stepped = np.stack([latent["deter"] for latent in latents], 1)
    np.testing.assert_allclose(stepped, whole.deter.numpy(), rtol=1e-4, atol=1e-5)
    stepped = np.stack([latent["stoch"] for latent in latents], 1)
    np.testing.assert_array_equal(stepped, whole.stoch.argmax(-1).numpy())


def act(agent: Agent, obs: dict[str, np.ndarray], latent: LatentArrays, action: np.ndarray, is_first: np.ndarray):
    torch.manual_seed(1)
    return agent.act(obs, latent, action, is_first)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_reset_in_one_environment_leaves_the_others_alone(action: str, no_resets: np.ndarray) -> None:
    space = ACTIONS[action]
    agent = build_agent(BOTH, space)
    obs = arrays({key: values(part, N, 1) for key, part in BOTH.items()}, 0)
    deter = np.random.default_rng(0).normal(size=(N, 24)).astype(np.float32)
    latent = {"deter": deter, "stoch": np.array([[0, 1, 2], [3, 4, 0], [1, 1, 4]], np.int16)}
    prev = values(space, N).numpy()
    reset = np.array([False, True, False])
    action_kept, kept = act(agent, obs, latent, prev, no_resets)
    action_reset, after = act(agent, obs, latent, prev, reset)
    for before, now in ((action_kept, action_reset), (kept["deter"], after["deter"]), (kept["stoch"], after["stoch"])):
        np.testing.assert_array_equal(now[[0, 2]], before[[0, 2]])
    assert (after["deter"][1] != kept["deter"][1]).any()
    # What the reset environment did before is gone: nothing of it is left to the last bit.
    other = {"deter": -deter, "stoch": latent["stoch"][::-1].copy()}
    action_other, fresh = act(agent, obs, other, values(space, N).numpy(), reset)
    np.testing.assert_array_equal(action_other[1], action_reset[1])
    np.testing.assert_array_equal(fresh["deter"][1], after["deter"][1])
    np.testing.assert_array_equal(fresh["stoch"][1], after["stoch"][1])


@pytest.mark.parametrize("action", ["discrete", "multi_discrete"])
def test_discrete_actions_reach_every_class_and_no_other(action: str) -> None:
    space = ACTIONS[action]
    agent = build_agent(VECTORS, space)
    obs = {key: values(part, 200).numpy() for key, part in VECTORS.items()}
    sample, latent = agent.act(obs, agent.initial(200), np.zeros((200, *space.shape), np.int32), np.ones(200, bool))
    for i, classes in enumerate(space.classes):
        assert set(sample[:, i].tolist()) == set(range(classes))
    assert set(latent["stoch"].ravel().tolist()) == set(range(5))


def test_evaluation_samples_too() -> None:
    agent = build_agent(VECTORS).eval()
    obs = {key: values(part, N).numpy() for key, part in VECTORS.items()}
    state = agent.initial(N), np.zeros((N, 2), np.float32), np.ones(N, bool)
    assert (agent.act(obs, *state)[0] != agent.act(obs, *state)[0]).all()


@pytest.mark.parametrize("action", ACTIONS)
def test_bfloat16_acts_on_a_cpu_and_stays_near_float32(
    action: str, monkeypatch: pytest.MonkeyPatch, no_resets: np.ndarray
) -> None:
    monkeypatch.setattr(distributions, "sample_index", lambda probs, noise=None: probs.argmax(-1))
    space = ACTIONS[action]
    precise = build_agent(BOTH, space)
    agent = Agent(precise.config, BOTH, space, precision="bfloat16")
    agent.load_state_dict(precise.state_dict())
    obs = arrays({key: values(part, N, 1) for key, part in BOTH.items()}, 0)
    args = obs, agent.initial(N), values(space, N).numpy(), no_resets
    sample, latent = agent.act(*args)
    expected = precise.act(*args)[1]["deter"]
    assert (sample.dtype, sample.shape) == (np.dtype(space.dtype), (N, *space.shape))
    assert {key: array.dtype for key, array in latent.items()} == {"deter": np.float32, "stoch": np.int16}
    np.testing.assert_allclose(latent["deter"], expected, rtol=0, atol=0.03)
    assert all(p.dtype == torch.float32 for p in agent.parameters())


def test_initial_latents_are_zero() -> None:
    agent = build_agent(VECTORS)
    latent = agent.initial(4)
    assert {key: (array.shape, array.dtype) for key, array in latent.items()} == {
        "deter": ((4, 24), np.float32),
        "stoch": ((4, 3), np.int16),
    }
    assert not any(array.any() for array in latent.values())


@pytest.mark.parametrize("key", ["reward", "cont", "dyn", "replay_value", "total"])
def test_observations_named_like_a_loss_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"\['{key}'\].*rename"):
        Agent(model_config(), {key: Space((2,), "float32"), "pose": Space((3,), "float32")}, CONTINUOUS)


@pytest.mark.parametrize("key", ["keys", "training", "arm.pose"])
def test_observations_may_have_a_name_that_no_module_of_torch_can_have(key: str) -> None:
    agent = Agent(model_config(), {key: Space((2,), "float32")}, CONTINUOUS)
    batch = build_batch(agent)
    world_model = agent.world_model
    loss = world_model.loss(batch, world_model.observe(batch)).losses[key].sum()
    loss.backward()
    assert has_gradient(world_model.decoder.vectors)


def test_parameter_groups_hold_every_trainable_parameter_once() -> None:
    agent = build_agent()
    grouped = [p for group in agent.parameter_groups().values() for p in group]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {p for p in agent.parameters() if p.requires_grad}

"""The world-model loss: which loss trains which part, and what an open-loop prediction may see."""

import math

import pytest
import torch
from tiny import ACTIONS, BOTH, CONTINUOUS, DISCRETE, IMAGE, OBSERVATIONS, VECTORS, build_agent, build_batch, values
from tiny import has_gradient as moved
from torch import Tensor

from dreamer.ops.symlog import symlog
from dreamer.types import Batch, Space
from dreamer.world_model.world_model import WorldModel, WorldModelOutput, action_vector, feature


def loss_of(model: WorldModel, batch: Batch) -> WorldModelOutput:
    return model.loss(batch, model.observe(batch))


@pytest.fixture(params=["image", "vectors"])
def case(request: pytest.FixtureRequest) -> tuple[WorldModel, Batch]:
    agent = build_agent(OBSERVATIONS[request.param])
    return agent.world_model, build_batch(agent)


@pytest.mark.parametrize("obs", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_loss_has_one_value_per_row(obs: str, action: str) -> None:
    agent = build_agent(OBSERVATIONS[obs], ACTIONS[action])
    batch = build_batch(agent)
    post = agent.world_model.observe(batch)
    out = agent.world_model.loss(batch, post)
    assert set(out.losses) == {"dyn", "rep", "reward", "cont", *OBSERVATIONS[obs]}
    for name, loss in out.losses.items():
        assert loss.shape == (2, 6), name
        assert torch.isfinite(loss).all(), name
    assert post.latent.stoch.sum(-1).eq(1).all()


def test_discrete_actions_become_joined_one_hots() -> None:
    space = Space((2,), "int32", (2, 3))
    action = torch.tensor([[[1, 0]], [[0, 2]]], dtype=torch.int32)
    assert action_vector(action, space).tolist() == [[[0, 1, 1, 0, 0]], [[1, 0, 0, 0, 1]]]
    continuous = torch.randn(2, 1, 2)
    assert torch.equal(action_vector(continuous, CONTINUOUS), continuous)


def test_feature_puts_h_before_z() -> None:
    agent = build_agent(VECTORS)
    post = agent.world_model.observe(build_batch(agent)).latent
    feat = feature(post)
    assert torch.equal(feat[..., :24], post.deter)
    assert torch.equal(feat[..., 24:].unflatten(-1, (3, 5)), post.stoch)


def test_stored_context_stands_before_the_first_row(case: tuple[WorldModel, Batch]) -> None:
    model, batch = case
    start = model.context(batch.context_deter, batch.context_stoch)
    assert torch.equal(start.stoch.argmax(-1), batch.context_stoch)
    # h of row 0 is one step of the cell from the stored latent, with the action that led into row 0.
    expected = model.rssm.recur(start, batch.prev_action[:, 0])
    torch.testing.assert_close(model.observe(batch).latent.deter[:, 0], expected)


@pytest.mark.parametrize("name", ["reward", "cont", "rep"])
def test_loss_reaches_the_encoder(case: tuple[WorldModel, Batch], name: str) -> None:
    model, batch = case
    model.config.free_nats = 0.0
    loss_of(model, batch).losses[name].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.parameters())
    assert moved(model.rssm.cell)
    assert not moved(model.decoder)


def test_dynamics_loss_trains_the_prior_and_what_h_remembers(case: tuple[WorldModel, Batch]) -> None:
    model, batch = case
    model.config.free_nats = 0.0
    losses = loss_of(model, batch).losses
    losses["dyn"][:, 0].sum().backward(retain_graph=True)
    # In row 0 the prior depends on nothing observed, and the posterior is a constant.
    assert moved(model.rssm.prior_net)
    assert not moved(model.encoder)
    assert not moved(model.rssm.posterior_net)
    model.zero_grad()
    losses["rep"][:, 0].sum().backward()
    assert not moved(model.rssm.prior_net)
    assert moved(model.encoder)


def test_reconstruction_reaches_everything_but_the_heads_and_the_prior(case: tuple[WorldModel, Batch]) -> None:
    model, batch = case
    losses = loss_of(model, batch).losses
    torch.stack([losses[key].sum() for key in batch.obs]).sum().backward()
    for part in (model.encoder, model.decoder, model.rssm.cell, model.rssm.posterior_net):
        assert all(p.grad is not None for p in part.parameters())
        assert moved(part)
    for part in (model.reward, model.cont, model.rssm.prior_net):
        assert not moved(part)


def test_continue_target_is_the_discount_and_zero_at_a_true_end(case: tuple[WorldModel, Batch]) -> None:
    model, batch = case
    torch.nn.init.zeros_(model.cont.out.weight)
    logit = math.log(332 / 1)  # sigmoid = 332/333 = 1 - 1/333
    torch.nn.init.constant_(model.cont.out.bias, logit)
    batch.is_terminal[0, 4] = batch.is_last[0, 4] = True
    batch.is_last[1, 2] = True  # a time limit: the episode would have gone on
    loss = loss_of(model, batch).losses["cont"]
    entropy = -(332 / 333) * math.log(332 / 333) - (1 / 333) * math.log(1 / 333)
    expected = torch.full((2, 6), entropy)
    expected[0, 4] = -math.log(1 / 333)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("t", [0, 4])
def test_reward_of_a_row_is_predicted_from_that_row(case: tuple[WorldModel, Batch], t: int) -> None:
    model, batch = case
    torch.manual_seed(1)
    before = loss_of(model, batch).losses
    batch.reward[1, t] += 5
    torch.manual_seed(1)
    after = loss_of(model, batch).losses
    for name in before:
        changed = (before[name] != after[name]).nonzero().tolist()
        assert changed == ([[1, t]] if name == "reward" else []), name


def seeded_open_loop(model: WorldModel, batch: Batch, context: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return model.open_loop(batch, context)


@torch.no_grad()
@pytest.mark.parametrize("action_space", [CONTINUOUS, DISCRETE])
def test_open_loop_filters_the_context_and_then_sees_actions_alone(action_space: Space) -> None:
    agent = build_agent(BOTH, action_space)
    model, batch, context = agent.world_model, build_batch(agent), 3
    got = seeded_open_loop(model, batch, context)
    torch.manual_seed(1)
    filtered = model.observe(batch).latent
    reconstructed = model.decoder.observations(model.decoder(filtered))
    other = build_batch(agent)
    mixed = [
        {key: torch.cat([value[:, :context], other.obs[key][:, context:]], 1) for key, value in batch.obs.items()},
        {key: torch.cat([other.obs[key][:, :context], value[:, context:]], 1) for key, value in batch.obs.items()},
    ]
    later_obs, earlier_obs = (seeded_open_loop(model, batch._replace(obs=obs), context) for obs in mixed)
    action = batch.prev_action.clone()
    action[:, 4] = values(action_space, 2) if not action_space.is_discrete else (action[:, 4] + 1) % 6
    other_action = seeded_open_loop(model, batch._replace(prev_action=action), context)
    for key, value in got.items():
        assert value.shape == batch.obs[key].shape
        torch.testing.assert_close(value[:, :context], reconstructed[key][:, :context])
        assert torch.equal(later_obs[key], value)
        assert torch.equal(other_action[key][:, :4], value[:, :4])
    for key in ("image", "pose"):  # real numbers: any change shows
        assert not torch.equal(got[key][:, 3], reconstructed[key][:, 3])
        assert not torch.equal(earlier_obs[key][:, 3], got[key][:, 3])
        for t in (4, 5):
            assert (other_action[key][:, t] != got[key][:, t]).flatten(1).any(1).all()


def test_vector_targets_are_symlogged() -> None:
    agent = build_agent(VECTORS)
    batch, model = build_batch(agent), agent.world_model
    head = model.decoder.vectors["height"]
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.constant_(head.bias, 2.0)
    batch.obs["height"].mul_(1000)
    loss = loss_of(model, batch).losses["height"]
    torch.testing.assert_close(loss, (2 - symlog(batch.obs["height"])).square())


def test_standardized_vectors_are_what_the_networks_see_and_predict() -> None:
    agent, plain = build_agent(BOTH, standardize_vectors=True), build_agent(BOTH)
    model, batch = agent.world_model, build_batch(agent)
    plain.load_state_dict(agent.state_dict(), strict=False)
    for key in ("height", "pose"):
        batch.obs[key].mul_(5).add_(3)
    model.standardize.fit({key: value.flatten(0, 1) for key, value in batch.obs.items()})
    shifted = {key: (batch.obs[key] - batch.obs[key].mean((0, 1))) / batch.obs[key].std((0, 1), correction=0)
               for key in ("height", "pose")}  # fmt: skip
    units = batch._replace(obs={**batch.obs, **shifted})
    torch.manual_seed(1)
    losses = loss_of(model, batch).losses
    torch.manual_seed(1)
    torch.testing.assert_close(losses, loss_of(plain.world_model, units).losses)
    got, expected = seeded_open_loop(model, batch, 3), seeded_open_loop(plain.world_model, units, 3)
    torch.testing.assert_close(got["image"], expected["image"])
    undone = expected["height"] * batch.obs["height"].std(correction=0) + batch.obs["height"].mean()
    torch.testing.assert_close(got["height"], undone)


def test_image_targets_are_shares_of_255() -> None:
    agent = build_agent(IMAGE)
    batch, model = build_batch(agent), agent.world_model
    last = model.decoder.image.convs[-1]
    torch.nn.init.zeros_(last.weight)
    batch.obs["image"].fill_(255)
    # sigmoid(0) = 1/2 everywhere: 8 * 8 * 3 entries, each off by 1/2
    torch.testing.assert_close(loss_of(model, batch).losses["image"], torch.full((2, 6), 8 * 8 * 3 / 4))

"""dreamer/viewer/{model,episode,dream}.py: what is shown is what the agent itself would do, see and imagine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import ACTIONS, BOTH, OBSERVATIONS, build_agent, values

from dreamer.behavior.imagination import imagine
from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.nn.distributions import kl_losses
from dreamer.types import Batch, Latent
from dreamer.viewer.dream import Dream
from dreamer.viewer.episode import Episode
from dreamer.viewer.model import Model

CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # sums of a batch of another shape


def start_of(model: Model) -> Latent:
    rssm = model.rssm
    return model.world_model.context(torch.randn(1, rssm.deter), torch.randint(0, rssm.classes, (1, rssm.stoch)))


@pytest.mark.parametrize("name", ["continuous", "discrete"])
def test_a_dream_with_the_policy_is_an_imagined_rollout(name):
    model = Model(build_agent(action_space=ACTIONS[name]))
    start, count = start_of(model), 3
    dream = Dream(model, start, count, seed=5, pictures=1)
    for _ in range(4):
        dream.advance()
    torch.manual_seed(5)
    starts = Latent(start.deter.expand(count, -1), start.stoch.expand(count, -1, -1))
    rollout = imagine(model.world_model, model.actor_critic.actor, starts, horizon=4)
    reward, value, cont = (np.stack(part, 1) for part in zip(*(row.told for row in dream.rows), strict=True))
    actions = np.stack([row.action for row in dream.rows[1:] if row.action is not None], 1)
    assert np.array_equal(actions, rollout.action[:, :4].numpy())
    torch.testing.assert_close(torch.as_tensor(reward), rollout.reward, **CLOSE)
    torch.testing.assert_close(torch.as_tensor(value), model.actor_critic.value(rollout.feat).detach(), **CLOSE)
    expected = (rollout.cont / model.world_model.config.discount).clamp(max=1)
    torch.testing.assert_close(torch.as_tensor(cont), expected, **CLOSE)


@pytest.mark.parametrize("name", ["image", "vectors", "both"])
def test_a_dream_of_given_actions_is_the_open_loop_of_the_world_model(name):
    model = Model(build_agent(OBSERVATIONS[name], standardize_vectors=True))
    obs = {key: values(space, 1, 5) for key, space in OBSERVATIONS[name].items()}
    actions = values(ACTIONS["continuous"], 1, 5).clamp(-1, 1)
    no = torch.zeros(1, 5, dtype=torch.bool)
    zeros = torch.zeros(1, model.rssm.deter), torch.zeros(1, model.rssm.stoch, dtype=torch.int64)
    is_first = no.clone()
    is_first[:, 0] = True
    batch = Batch(obs, actions, no.float(), is_first, no, no, *zeros, torch.zeros(1, 2, dtype=torch.int64))
    torch.manual_seed(2)
    expected = model.world_model.open_loop(batch, context=1)

    torch.manual_seed(2)
    noise = torch.rand(1, model.rssm.stoch)
    row = {key: value[0, 0].numpy() for key, value in obs.items()}
    seen = model.see(model.nothing(), row, np.zeros(2, np.float32), True, noise)
    dream = Dream(model, seen.latent, 1, seed=0, pictures=1)
    dream._generator.set_state(torch.get_rng_state())  # go on where the filter stopped, as open_loop does
    for t in range(1, 5):
        dream.advance(actions[0, t].numpy())
    for key, space in OBSERVATIONS[name].items():
        dreamed = np.stack([row.obs[key][0] for row in dream.rows])
        wanted = expected[key][0].numpy()
        if space.is_image:
            assert np.abs(dreamed - wanted * 255).max() <= 0.51
        else:
            np.testing.assert_allclose(dreamed, wanted, rtol=1e-5, atol=1e-5)


def an_episode(env: str = "dummy_counter", seed: int = 7):
    made = make_env(EnvConfig(suite="dummy", name=env, size=16, obs="both"))
    agent = build_agent(made.obs_space, made.action_space)
    return made, agent, Episode(Model(agent), made, 1, seed)


def test_an_episode_takes_the_actions_of_a_session_with_its_seed_and_ends_with_the_environment():
    env, agent, episode = an_episode()
    while not episode.is_over:
        episode.advance()
    session, row = agent.session(seed=7), env.reset(1)
    for mine in episode.rows:
        assert mine.row.is_last == row.is_last and mine.row.reward == row.reward
        action = session.act(row.obs, row.is_first)
        assert np.array_equal(action, mine.action)
        if not row.is_last:
            row = env.step(action)
    assert row.is_last and len(episode.rows) > 2


def test_kl_of_a_row_is_the_dynamics_loss_before_free_nats():
    _, agent, episode = an_episode()
    latent = episode.rows[0].seen.latent
    with torch.inference_mode():
        logits = agent.world_model.rssm.posterior(latent.deter, episode.rows[0].seen.embed)
        dyn, _ = kl_losses(logits, agent.world_model.rssm.prior(latent.deter), agent.config.rssm.unimix, 0.0)
    assert episode.rows[0].seen.kl == pytest.approx(float(dyn), abs=1e-6) and float(dyn) > 0


def test_surprise_of_a_dream_that_has_not_parted_from_reality_is_the_kl_of_the_row():
    _, agent, episode = an_episode()
    seen = episode.rows[0].seen
    dream = Dream(Model(agent), seen.latent, 4, seed=0, pictures=0)
    following = episode.advance().seen
    row = dream.advance(episode.rows[0].action, following.embed)
    assert row.surprise is not None
    np.testing.assert_allclose(row.surprise, np.full(4, following.kl), atol=1e-5)


def test_dreams_of_one_seed_are_equal_and_part_from_each_other_and_from_another_seed():
    model = Model(build_agent(BOTH))
    start = start_of(model)

    def dreamed(seed: int) -> np.ndarray:
        dream = Dream(model, start, 4, seed, pictures=4)
        for _ in range(6):
            dream.advance(np.zeros(2, np.float32))
        return dream.rows[-1].obs["pose"]

    assert np.array_equal(dreamed(1), dreamed(1)) and not np.array_equal(dreamed(1), dreamed(2))
    assert len(np.unique(dreamed(1), axis=0)) > 1, "several samples show what the model is not sure of"


def test_only_the_first_dreams_are_decoded_as_pictures_and_a_cut_dream_goes_on():
    model = Model(build_agent(BOTH))
    dream = Dream(model, start_of(model), 5, seed=1, pictures=2)
    for _ in range(3):
        row = dream.advance()
    assert row.obs["image"].shape == (2, 8, 8, 3) and row.obs["image"].dtype == np.uint8
    assert row.obs["pose"].shape == (5, 2, 3) and row.obs["dials"].shape == (5, 2)
    kept = dream.rows[1]
    dream.cut(2)
    assert dream.rows[-1] is kept and dream.advance() is dream.rows[2]

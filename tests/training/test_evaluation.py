"""Evaluation: whole episodes, seeds of its own, and no trace in the training that goes on after it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dreamer.agent import Agent
from dreamer.envs.suites.dummy import Counter, Recall
from dreamer.training import evaluation
from dreamer.training.display.dreams import dream_films, pieces
from dreamer.training.evaluation import Evaluation, evaluate, model_losses
from dreamer.training.random_state import forked


@pytest.fixture
def agent(tiny):
    env = Recall()
    return Agent(tiny("env=dummy_recall").model, env.obs_space, env.action_space)


def test_returns_and_lengths_are_those_of_whole_episodes(tiny):
    env = Counter("both", length=6)
    agent = Agent(tiny("env=dummy_counter", "env.obs=both").model, env.obs_space, env.action_space)
    result = evaluate(agent, env, episodes=3, seed=0, max_length=6, record=True)
    assert (result.returns, result.lengths) == ([21.0] * 3, [6] * 3)  # 0 + 1 + ... + 6
    assert [frame[0, 0, 0] for frame in result.frames] == list(range(7)), "the first episode alone is recorded, whole"
    assert evaluate(agent, env, episodes=1, seed=0, max_length=6).frames == []


def test_an_episode_without_an_end_is_cut_off(tiny):
    env = Counter(length=10**9)
    agent = Agent(tiny("env=dummy_counter").model, env.obs_space, env.action_space)
    result = evaluate(agent, env, episodes=2, seed=0, max_length=3)
    assert (result.returns, result.lengths) == ([6.0] * 2, [3] * 2)  # 0 + 1 + 2 + 3


def test_mean_and_standard_deviation_are_of_the_population():
    result = Evaluation([1.0, 3.0], [4, 4], [], [])
    assert (result.mean, result.std) == (2.0, 1.0)


def test_the_kept_rows_are_the_episodes_with_the_actions_that_led_to_them(tiny, monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_ROWS", 5)
    env = Counter("both", length=6)
    agent = Agent(tiny("env=dummy_counter", "env.obs=both").model, env.obs_space, env.action_space)
    (limited,) = evaluate(agent, Counter("both", length=4), episodes=1, seed=0, max_length=6, keep_rows=True).sequences
    assert limited.is_last.tolist() == [[False] * 4 + [True]] and not limited.is_terminal.any()
    one, other = evaluate(agent, env, episodes=2, seed=0, max_length=6, keep_rows=True).sequences
    assert one.is_first.tolist() == [[True] + [False] * 4] and not one.is_last.any()
    assert one.reward.tolist() == [[0, 1, 2, 3, 4]] and one.obs["image"].shape == (1, 5, *env.obs_space["image"].shape)
    # Counter observes the action that was taken.
    assert torch.equal(one.obs["action"], one.prev_action) and one.prev_action[0, 1:].ne(0).all()
    assert not one.prev_action[:, 1:].equal(other.prev_action[:, 1:])
    assert evaluate(agent, env, episodes=2, seed=0, max_length=6).sequences == []


def test_dreams_are_of_pieces_from_all_over_an_episode_and_begin_at_each(tiny):
    env = Counter("both", length=20)
    agent = Agent(tiny("env=dummy_counter", "env.obs=both").model, env.obs_space, env.action_space)
    (whole,) = evaluate(agent, env, episodes=1, seed=0, max_length=20, keep_rows=True).sequences
    batch = pieces(whole, count=3, length=7)
    assert batch.reward.tolist() == [list(range(start, start + 7)) for start in (0, 7, 14)]
    assert batch.is_first.tolist() == [[True] + [False] * 6] * 3
    assert pieces(whole, count=3, length=99).reward.tolist() == whole.reward.tolist(), "a short episode is one piece"
    (frames,) = dream_films(agent, batch, seed=0).values()
    assert [frame.shape for frame in frames] == [(3 * 16, 3 * 16, 3)] * 7, "three pieces of three rows"
    assert all((frame[:16, ::16, 0] == [time, time + 7, time + 14]).all() for time, frame in enumerate(frames))
    again = dream_films(agent, batch._replace(context_deter=batch.context_deter + 1), seed=0)["image"]
    assert np.array_equal(frames, again), "what came before a piece is not seen"


def test_losses_of_the_world_model_are_means_over_all_rows(agent):
    sequences = [
        *evaluate(agent, Recall(), episodes=3, seed=0, max_length=9, keep_rows=True).sequences,
        *evaluate(agent, Recall(), episodes=1, seed=0, max_length=2, keep_rows=True).sequences,
    ]
    torch.manual_seed(0)
    expected = []
    for batch in sequences:
        expected.append(agent.world_model.loss(batch, agent.world_model.observe(batch)).losses["reward"].flatten())
    before = torch.random.get_rng_state()
    losses = model_losses(agent, sequences, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert losses["reward"] == pytest.approx(torch.cat(expected).mean().item(), rel=1e-5)
    assert losses.keys() == {"dyn", "rep", "reward", "cont", *agent.obs_space}


@pytest.mark.slow
def test_one_seed_gives_one_result_and_another_seed_another(agent):
    one, same, other = (evaluate(agent, Recall(), episodes=40, seed=seed, max_length=9) for seed in (5, 5, 6))
    assert one.returns == same.returns != other.returns
    assert 0 < one.mean < 1, "an untrained agent guesses"


def test_evaluation_draws_nothing_from_the_generators_of_training(agent):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    evaluate(agent, Recall(), episodes=2, seed=0, max_length=9)
    assert torch.equal(torch.rand(3), expected)
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]


def test_forked_generators_start_from_its_seed_and_leaves_no_trace():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with forked(8, torch.device("cpu")):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    torch.manual_seed(8)
    assert torch.equal(inside, torch.rand(2))

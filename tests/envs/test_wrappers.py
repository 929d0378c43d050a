import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.envs.seeding import EVALUATION_STREAM, episode_seed
from dreamer.envs.spec import Env
from dreamer.envs.suites.dmc import DMC
from dreamer.envs.suites.dummy import Counter, Recall
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import TimeStep


def build(kind: str) -> Env:
    if kind == "recall":
        return Recall(delay=20)
    if kind.startswith("counter"):
        return Counter(actions=kind.removeprefix("counter_"))
    return DMC(kind, "proprio", 2, 64, 0)


def random_actions(env: Env, num_actions: int) -> np.ndarray:
    rng, space = np.random.default_rng(0), env.action_space
    if space.is_discrete:
        return rng.integers(0, space.classes, (num_actions, *space.shape)).astype(np.int32)
    return rng.uniform(-1, 1, (num_actions, *space.shape)).astype(np.float32)


def assert_same(left: TimeStep | None, right: TimeStep) -> None:
    assert left is not None and left[1:] == right[1:] and left.obs.keys() == right.obs.keys()
    for key in left.obs:
        np.testing.assert_array_equal(left.obs[key], right.obs[key])


KINDS = ["counter_continuous", "counter_multi_discrete", "recall", "walker_walk", "reacher_easy", "finger_turn_easy"]


@pytest.mark.parametrize("num_before", [0, 1, 9])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_episode_goes_on_as_if_never_stopped(kind: str, num_before: int) -> None:
    journal = EpisodeJournal(build(kind))
    journal.reset(1)
    actions = random_actions(journal, 15)
    journal.step(actions[3])
    row = journal.reset(2**60 + 7)
    for action in actions[:num_before]:
        row = journal.step(action)
    state = journal.state_dict()
    assert state["actions"].shape == (num_before, *journal.action_space.shape)

    resumed = EpisodeJournal(build(kind))
    back = resumed.load_state_dict(state)
    assert back.is_exact
    assert_same(back.row, row)
    for action in actions[num_before:]:
        assert_same(resumed.step(action), journal.step(action))


@pytest.mark.usefixtures("renderer")
def test_a_vision_episode_resumes_with_the_same_picture() -> None:
    journal = make_env(EnvConfig(suite="dmc", name="walker_walk", size=32))
    row = journal.reset(0)
    for action in random_actions(journal, 3):
        row = journal.step(action)
    fresh = make_env(EnvConfig(suite="dmc", name="walker_walk", size=32))
    back = fresh.load_state_dict(journal.state_dict())
    assert back.is_exact and back.row is not None
    assert np.abs(back.row.obs["image"].astype(int) - row.obs["image"]).mean() < 0.5


@pytest.mark.parametrize("is_started", [True, False])
def test_nothing_is_replayed_between_episodes(is_started: bool) -> None:
    journal = EpisodeJournal(Recall(delay=1))
    if is_started:
        journal.reset(0)
        journal.step(np.zeros(1, np.int32))
        assert journal.step(np.zeros(1, np.int32)).is_last
    back = EpisodeJournal(Recall(delay=1)).load_state_dict(journal.state_dict())
    assert back.row is None and back.is_exact


@pytest.mark.parametrize("change", ["return", "simulator", "seed", "actions"])
def test_a_different_replay_is_noticed(change: str) -> None:
    journal = EpisodeJournal(build("walker_walk"))
    journal.reset(0)
    for action in random_actions(journal, 5):
        journal.step(action)
    state = journal.state_dict()
    state[change] = state[change] + 1e-6 if change != "seed" else state[change] + 1
    back = journal.load_state_dict(state)
    assert back.row is None and not back.is_exact
    assert journal.state_dict()["seed"] is None
    assert journal.reset(1).is_first


def test_a_replay_that_ends_early_is_noticed() -> None:
    journal = EpisodeJournal(Counter(length=9))
    journal.reset(0)
    for action in random_actions(journal, 8):
        journal.step(action)
    for shorter in (3, 7, 8):
        back = EpisodeJournal(Counter(length=shorter)).load_state_dict(journal.state_dict())
        assert back.row is None and not back.is_exact


def test_streams_and_runs_never_share_an_episode() -> None:
    streams = (0, 1, 2, EVALUATION_STREAM)
    seeds = {episode_seed(run, stream, n) for run in range(4) for stream in streams for n in range(200)}
    assert len(seeds) == 4 * len(streams) * 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert episode_seed(0, 1, 2) == episode_seed(0, 1, 2)

import numpy as np
import pytest

from dreamer.envs.suites.dummy import ACTIONS, TASKS, Counter, Recall


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("actions", list(ACTIONS))
def test_counter_rows_tell_index_episode_and_action(actions: str, is_terminal: bool) -> None:
    env = Counter("both", length=5, actions=actions, is_terminal=is_terminal)
    space = env.action_space
    for seed in (7, 8):
        row, action = env.reset(seed), np.zeros(space.shape, space.dtype)
        for t in range(6):
            np.testing.assert_array_equal(row.obs["counter"], [t, seed])
            np.testing.assert_array_equal(row.obs["action"], action)
            assert (row.obs["image"] == [t, 0, seed]).all()
            assert row[1:] == (float(t), t == 0, t == 5, t == 5 and is_terminal)
            assert {key: (value.shape, str(value.dtype)) for key, value in row.obs.items()} == {
                key: (space.shape, space.dtype) for key, space in env.obs_space.items()
            }
            if t < 5:
                action = np.full(space.shape, t % 2, space.dtype)
                row = env.step(action)
        with pytest.raises(AssertionError, match="reset"):
            env.step(np.zeros(space.shape, space.dtype))


def test_a_counter_of_many_rows_still_fits_its_pixels() -> None:
    env = Counter("vision", length=300)
    row = env.reset(0)
    for _ in range(260):
        row = env.step(np.zeros(2, np.float32))
    assert (row.obs["image"] == [4, 1, 0]).all()


def test_an_action_outside_its_space_is_refused() -> None:
    env = Counter(actions="multi_discrete")
    env.reset(0)
    for action in (np.array([0, 2], np.int32), np.array([0, 0], np.int64), np.array([0], np.int32)):
        with pytest.raises(AssertionError):
            env.step(action)


@pytest.mark.parametrize("obs", ["proprio", "vision"])
def test_recall_pays_the_cue_and_only_row_zero_shows_it(obs: str) -> None:
    env = Recall(obs, num_cues=4, delay=2)
    (key,) = env.obs_space
    shown: dict[int, bytes] = {}  # cue -> what row 0 looked like
    for seed in range(40):
        rewards, first = [], env.reset(seed)
        for answer in range(4):
            row = env.reset(seed)
            assert row.is_first and row.obs[key].any()
            for _ in range(2):  # early answers are ignored
                blank = env.step(np.array([3 - answer], np.int32))
                assert blank.reward == 0 and not blank.is_last and not blank.obs[key].any()
            last = env.step(np.array([answer], np.int32))
            assert last.is_last and last.is_terminal and not last.obs[key].any()
            rewards.append(last.reward)
        assert sorted(rewards) == [0, 0, 0, 1]
        look = first.obs[key].tobytes()
        assert shown.setdefault(rewards.index(1), look) == look  # one cue, one picture
    assert len(set(shown.values())) == len(shown) == 4


def test_recall_that_is_asked_always_pays_for_every_right_answer() -> None:
    env = Recall(num_cues=2, delay=3, is_asked_always=True)
    for seed in range(10):
        cue = int(env.reset(seed).obs["cue"].argmax())
        rows = [env.step(np.array([answer], np.int32)) for answer in (cue, 1 - cue, cue, cue)]
        assert [row.reward for row in rows] == [1, 0, 1, 1]
        assert [row.is_last for row in rows] == [False, False, False, True]


def test_recall_without_memory_scores_as_a_guess() -> None:
    env = Recall(num_cues=2, delay=1)
    total = 0.0
    for seed in range(2000):
        env.reset(seed)
        env.step(np.zeros(1, np.int32))
        total += env.step(np.zeros(1, np.int32)).reward
    assert abs(total / 2000 - 0.5) < 0.05  # 4 standard deviations are 0.045


@pytest.mark.parametrize("name", list(TASKS))
@pytest.mark.parametrize("obs", ["vision", "proprio", "both"])
def test_every_dummy_task_shows_what_was_asked_for(name: str, obs: str) -> None:
    env = TASKS[name](obs=obs, action_repeat=2, size=32)
    assert env.env_steps_per_action == 2
    assert ("image" in env.obs_space) == (obs != "proprio")
    assert any(space.dtype == "float32" for space in env.obs_space.values()) == (obs != "vision")
    assert env.reset(0).obs.keys() == env.obs_space.keys()

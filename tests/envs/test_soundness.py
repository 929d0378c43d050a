"""Rows that nothing can learn from, by what is wrong with them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from dreamer.config.schema import EnvConfig
from dreamer.envs.make import make_env
from dreamer.envs.soundness import UnsoundRow, check_row, fault_of
from dreamer.envs.suites.dummy import Counter
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import Space, TimeStep

VECTOR, CHOICE, IMAGE = Space((3,), "float32"), Space((2,), "int32", (4, 2)), Space((2, 2, 3), "uint8")
SOUND = {"pose": np.zeros(3, np.float32), "dials": np.array([3, 1], np.int32), "image": np.zeros((2, 2, 3), np.uint8)}
SPACES = {"pose": VECTOR, "dials": CHOICE, "image": IMAGE}


def row_of(reward: Any = 1.0, **obs: Any) -> TimeStep:
    return TimeStep({**SOUND, **obs}, reward, is_first=False, is_last=False, is_terminal=False)


@pytest.mark.parametrize("reward", [0.0, -4.8e8, 4.8e8, np.float32(1), 3])
def test_sound_rows_pass(reward: float) -> None:
    check_row(row_of(reward), SPACES, 0)
    check_row(TimeStep({}, reward, False, False, False), SPACES, 0, has_obs=False)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        (row_of(float("nan")), "reward is nan in row 4 of an episode"),
        (row_of(float("-inf")), "reward is -inf"),
        (row_of(1e30), r"reward is 1e\+30, beyond the 4.85e\+08 that the reward head can tell"),
        (row_of(-5e8), "reward is -5e"),
        (row_of(pose=np.array([0, np.nan, 0], np.float32)), r"observation pose holds nan at \[1\] in row 4"),
        (row_of(pose=np.zeros(1, np.float32)), r"pose has the shape \(1,\), where its space promises \(3,\)"),
        (row_of(pose=np.zeros(3)), "pose is float64, where its space promises float32"),
        (row_of(pose=[0.0, 0.0, 0.0]), "pose is a list, no array"),
        (row_of(dials=np.array([4, 0], np.int32)), r"dials holds the choice 4 at \[0\], of \(4, 2\) choices"),
        (row_of(dials=np.array([0, -1], np.int32)), r"dials holds the choice -1 at \[1\]"),
        (row_of(image=np.zeros((2, 2, 1), np.uint8)), r"image has the shape \(2, 2, 1\)"),
        (TimeStep({"pose": SOUND["pose"]}, 0.0, False, False, False), "observation dials is missing"),
        (row_of(extra=np.zeros(1)), "observation extra is not among its spaces"),
    ],
)
def test_unsound_rows_are_named(row: TimeStep, told: str) -> None:
    with pytest.raises(UnsoundRow, match=told):
        check_row(row, SPACES, 4)


def test_numbers_of_no_dimension_are_told_without_a_place() -> None:
    assert fault_of(np.float32("inf"), Space((), "float32")) == "holds inf"


def test_an_unsound_row_travels_between_processes() -> None:
    sent = pickle.loads(pickle.dumps(UnsoundRow("reward", "is nan", 3)))
    assert (sent.key, sent.found, sent.row) == ("reward", "is nan", 3)


def test_a_journal_stays_as_it_was_before_an_unsound_row() -> None:
    config = EnvConfig(suite="custom", name="faulty", obs="auto", action_repeat=1)
    config.class_, config.kwargs = "faulty.Faulty", {"episode": 0, "row": 3}
    journal, action = make_env(config), np.zeros(2, np.float32)
    journal.reset(0)
    for _ in range(2):
        journal.step(action)
    with pytest.raises(UnsoundRow, match="reward is nan in row 3 of an episode"):
        journal.step(action)
    state = journal.state_dict()
    assert (len(state["actions"]), state["return"], state["simulator"]) == (2, 2.0, None)
    config.kwargs = {"episode": 9}
    assert make_env(config).load_state_dict(state).is_exact


def test_a_move_that_nobody_used_is_taken_back() -> None:
    journal, action = EpisodeJournal(Counter(length=3)), np.zeros(2, np.float32)
    journal.undo()  # before anything has moved
    assert journal.state_dict()["seed"] is None
    journal.reset(4)
    journal.step(action)
    before = journal.state_dict()
    for moves in ((action,), (action, action)):  # the last one of these ends the episode
        journal.reset(4)
        journal.step(action)
        for move in moves[:-1]:
            journal.step(move)
        reference = journal.state_dict()
        journal.step(moves[-1])
        journal.undo()
        taken_back = journal.state_dict()
        assert taken_back["seed"] == reference["seed"] and taken_back["return"] == reference["return"]
        np.testing.assert_array_equal(taken_back["actions"], reference["actions"])
        assert taken_back["simulator"] is None
    assert before["seed"] == 4

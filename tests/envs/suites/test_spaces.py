"""Spaces of gymnasium as ours: what each becomes, value by value, and what is refused."""

import re
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from dreamer.envs.suites.spaces import action_of, finite_bounds, observation_entries, resized
from dreamer.types import Space

RGB = spaces.Box(0, 255, (64, 64, 3), np.uint8)
NESTED = spaces.Dict(
    {
        "sensors": spaces.Dict({"left": RGB, "right": spaces.Box(0, 255, (1, 32, 32), np.uint8)}),
        "joints": spaces.Tuple([spaces.Box(-1, 1, (2, 3), np.float64), spaces.Discrete(5, start=2)]),
        "dials": spaces.MultiDiscrete([[4, 2]], start=[[1, 0]]),
        "lamps": spaces.MultiBinary(3),
        "reward": spaces.Box(-1, 1, ()),
    }
)


def test_nested_observations_are_flattened_by_name() -> None:
    entries = observation_entries(NESTED, None, "env.id=X")
    assert {key: entry.space for key, entry in entries.items()} == {
        "sensors.left": Space((64, 64, 3), "uint8"),
        "sensors.right": Space((64, 64, 1), "uint8"),
        "joints.0": Space((2, 3), "float32"),
        "joints.1": Space((1,), "int32", (5,)),
        "dials": Space((2,), "int32", (4, 2)),
        "lamps": Space((3,), "int32", (2, 2, 2)),
        "reward_": Space((), "float32"),  # the name of a loss
    }


def test_every_value_fits_its_space_and_is_counted_from_zero() -> None:
    entries = observation_entries(NESTED, None, "env.id=X")
    NESTED.seed(0)
    for _ in range(20):
        obs = NESTED.sample()
        for entry in entries.values():
            value, space = entry.read(obs), entry.space
            assert value.shape == space.shape and str(value.dtype) == space.dtype
            if space.is_discrete:
                assert (value >= 0).all() and (value < np.array(space.classes)).all()
        np.testing.assert_array_equal(entries["joints.0"].read(obs), np.float32(obs["joints"][0]))
        np.testing.assert_array_equal(entries["sensors.left"].read(obs), obs["sensors"]["left"])
        assert entries["joints.1"].read(obs)[0] == obs["joints"][1] - 2
        np.testing.assert_array_equal(entries["dials"].read(obs), obs["dials"][0] - [1, 0])
        np.testing.assert_array_equal(entries["lamps"].read(obs), obs["lamps"])


def test_what_is_read_is_no_view_of_what_the_environment_may_overwrite() -> None:
    space = spaces.Dict({"image": RGB, "speed": spaces.Box(-1, 1, (2,), np.float32)})
    entries = observation_entries(space, None, "env.id=X")
    obs = space.sample()
    for key in obs:
        assert not np.shares_memory(entries[key].read(obs), obs[key])


@pytest.mark.parametrize(("space", "name"), [(RGB, "image"), (spaces.Discrete(4), "state"), (NESTED["lamps"], "state")])
def test_an_observation_without_a_name_gets_one(space: spaces.Space, name: str) -> None:
    assert list(observation_entries(space, None, "env.id=X")) == [name]


def test_a_line_tells_which_pictures_are_resized() -> None:
    space = spaces.Dict({"far": spaces.Box(0, 255, (84, 84), np.uint8), "near": spaces.Box(0, 255, (80, 80), np.uint8)})
    (line,) = resized(space, observation_entries(space, None, "env.id=X"))
    assert line.startswith("far of 84 x 84 pixels is resized to 80 x 80")
    assert resized(RGB, observation_entries(RGB, None, "env.id=X")) == []


def test_two_observations_that_would_share_a_name_are_refused() -> None:
    space = spaces.Dict({"a b": spaces.Discrete(2), "a_b": spaces.Discrete(3)})
    with pytest.raises(ValueError, match=r"env.id=X has two observations of the same name among a_b"):
        observation_entries(space, None, "env.id=X")


@pytest.mark.parametrize("space", [spaces.Text(5), spaces.Sequence(spaces.Discrete(2))])
def test_observations_without_a_fixed_shape_are_refused(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match=r"^env\.id=X: observation words is .* \(env\.leave_out=\[words\]\) or wrap"):
        observation_entries(spaces.Dict({"words": space}), None, "env.id=X")


def test_what_is_left_out_need_not_be_understood() -> None:
    space = spaces.Dict({**NESTED.spaces, "words": spaces.Text(5)})
    entries = observation_entries(space, None, "env.id=X", ["words", "sensors.left", "reward_"])
    assert set(entries) == {"dials", "joints.0", "joints.1", "lamps", "sensors.right"}
    assert entries["sensors.right"].space == Space((32, 32, 1), "uint8")  # no longer the size of the left one


def test_what_is_left_out_must_be_there() -> None:
    with pytest.raises(ValueError, match=r"^env\.leave_out=lamp is no observation of env\.id=X; did you mean lamps\?"):
        observation_entries(NESTED, None, "env.id=X", ["lamp"])


@pytest.mark.parametrize("shape", [(7, 7, 3), (9, 9), (3, 10, 10)])
def test_a_small_board_of_codes_is_numbers_and_stays_as_it_is(shape: tuple[int, ...]) -> None:
    board = np.random.default_rng(0).integers(0, 11, shape).astype(np.uint8)
    (entry,) = observation_entries(spaces.Box(0, 255, shape, np.uint8), None, "env.id=X").values()
    assert entry.space == Space(shape, "float32")
    np.testing.assert_array_equal(entry.read(board), board.astype(np.float32))


def test_continuous_actions_reach_the_bounds_and_stop_there() -> None:
    action = action_of(spaces.Box(np.array([[-2, 0]]), np.array([[2, 10]]), dtype=np.float64), "env.id=X")
    assert action.space == Space((2,), "float32")
    for ours, theirs in (([-1, -1], [[-2, 0]]), ([1, 1], [[2, 10]]), ([0, 5], [[0, 10]])):
        decoded = action.decode(np.array(ours, np.float32))
        np.testing.assert_allclose(decoded, theirs)
        assert decoded.dtype == np.float64


def test_actions_without_bounds_are_those_of_the_agent() -> None:
    low, high = np.array([-np.inf, 0, -1e10], np.float32), np.array([np.inf, np.inf, 1e10], np.float32)
    action = action_of(spaces.Box(low, high), "env.id=X")
    np.testing.assert_allclose(action.decode(np.array([-1, -1, 1], np.float32)), [-1, 0, 1])  # 0: the bound it has
    np.testing.assert_array_equal(finite_bounds(low, high), [[-1, -1, -1], [1, 1, 1]])


def test_whole_numbers_between_bounds_are_rounded() -> None:
    action = action_of(spaces.Box(0, 10, (1,), np.int64), "env.id=X")
    assert action.decode(np.array([0.13], np.float32)) == [6] and action.decode(np.array([-1], np.float32)) == [0]


def test_whole_numbers_stop_at_bounds_that_no_float_can_tell() -> None:
    ends = np.iinfo(np.uint64).max, np.iinfo(np.int64).min + 1
    for end, dtype in zip(ends, (np.uint64, np.int64), strict=True):
        action = action_of(spaces.Box(np.array([end], dtype), np.array([end], dtype), dtype=dtype), "env.id=X")
        assert action.decode(np.zeros(1, np.float32)) == [end]


def test_truth_values_between_bounds_are_rounded() -> None:
    action = action_of(spaces.Box(0, 1, (3,), bool), "env.id=X")
    np.testing.assert_array_equal(action.decode(np.array([-0.5, -1, 0.1], np.float32)), [False, False, True])


@pytest.mark.parametrize("space", [spaces.Box(0, 1, ()), spaces.MultiDiscrete(3)])
def test_an_action_without_dimensions_is_an_array_if_its_space_says_so(space: spaces.Space) -> None:
    assert space.contains(action_of(space, "env.id=X").decode(np.zeros(1, np.int32)))


def test_choices_counted_from_afar_are_exact() -> None:
    start = np.array([2**62], np.uint64)
    action = action_of(spaces.MultiDiscrete(np.array([2]), np.uint64, start=start), "env.id=X")
    assert int(action.decode(np.array([1], np.int32))[0]) == 2**62 + 1


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Discrete(2**40), "observation state Discrete(1099511627776) has 1,099,511,627,776 values"),
        (spaces.MultiDiscrete(np.array([], int)), "observation state is MultiDiscrete([]), which has no entry"),
    ],
)
def test_observations_that_no_network_can_take_are_refused(space: spaces.Space, expected: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"env.id=X: {expected}")):
        observation_entries(space, None, "env.id=X")


@pytest.mark.parametrize("space", [spaces.Box(-1, 1, (0,)), spaces.Tuple([]), spaces.MultiDiscrete(np.array([], int))])
def test_an_action_of_nothing_is_refused(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match=r"^env\.id=X: action .* has no entry, so there is nothing to choose\.$"):
        action_of(space, "env.id=X")


@pytest.mark.parametrize(
    ("space", "classes", "ours", "theirs"),
    [
        (spaces.Discrete(3, start=-1), (3,), [2], 1),
        (spaces.MultiDiscrete([3, 2]), (3, 2), [2, 1], [2, 1]),
        (spaces.MultiDiscrete([[3], [2]], start=[[1], [0]]), (3, 2), [2, 1], [[3], [1]]),
        (spaces.MultiBinary((2, 2)), (2, 2, 2, 2), [1, 0, 0, 1], [[1, 0], [0, 1]]),
        (spaces.Tuple([spaces.Discrete(3), spaces.MultiBinary(2)]), (3, 2, 2), [2, 0, 1], (2, [0, 1])),
    ],
)
def test_discrete_actions_of_every_kind(space: Any, classes: tuple[int, ...], ours: list[int], theirs: Any) -> None:
    action = action_of(space, "env.id=X")
    assert action.space == Space((len(classes),), "int32", classes)
    decoded = action.decode(np.array(ours, np.int32))
    assert space.contains(decoded)
    for part, expected in zip(
        *((decoded, theirs) if isinstance(theirs, tuple) else ([decoded], [theirs])), strict=True
    ):
        np.testing.assert_array_equal(part, expected)


def test_a_tuple_of_continuous_actions_is_one_vector() -> None:
    space = spaces.Tuple([spaces.Box(0, 1, (2,)), spaces.Box(-4, 4, (1,))])
    action = action_of(space, "env.id=X")
    assert action.space == Space((3,), "float32")
    decoded = action.decode(np.array([1, -1, 1], np.float32))
    assert space.contains(decoded)
    np.testing.assert_allclose(np.concatenate(decoded), [1, 0, 4])


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Dict({"arm": spaces.Discrete(2)}), "is not understood; it may be Box, Discrete"),
        (spaces.Text(3), "is not understood; it may be Box, Discrete"),
        (spaces.Dict({"arm": spaces.Box(-1, np.arange(90))}), r"^[^\n]*\.\.\. is not understood"),
        (spaces.Discrete(2**40), "has 1,099,511,627,776 values"),
        (spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1)]), "mixes continuous and discrete parts"),
    ],
)
def test_actions_that_the_actor_cannot_choose_are_refused(space: spaces.Space, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        action_of(space, "env.id=X")
    assert str(caught.value).startswith("env.id=X: action ")

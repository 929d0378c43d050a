"""Any space of gymnasium, and any spec of dm_env: what comes fits what was promised, or is refused by its name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import dm_env
import numpy as np
from dm_env import specs
from forms import fuzzed
from gymnasium import spaces
from hypothesis import example
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dreamer.envs.notices import NOTICES
from dreamer.envs.suites.custom import FromDmEnv
from dreamer.envs.suites.gymnasium import Gymnasium
from dreamer.envs.suites.spaces import action_of, finite_bounds, observation_entries
from dreamer.types import Space

NAME = "env.id=Fuzzed-v0"
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
REAL = ("float16", "float32", "float64")
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
NAMES = st.one_of(
    st.sampled_from(["image", "state", "reward", "a.b", "a b", "a_b", "", "Ünï", "0"]), st.text(max_size=4)
)


@st.composite
def bounds(draw: st.DrawFn, dtype: np.dtype, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of every entry: near, far, at the ends of the type, missing on one side or on both."""
    if dtype.kind == "f":
        near = st.floats(-8, 8, width=16)
        ends = float(np.finfo(dtype).max)
        far = st.sampled_from([-np.inf, np.inf, -ends, ends, 1e4, -1e4, *((1e10, -1e10) if ends > 1e10 else ())])
    else:
        least, most = (0, 1) if dtype.kind == "b" else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
        near = st.integers(max(least, -8), min(most, 8))
        far = st.one_of(st.sampled_from([least, most]), st.integers(least, most))
    one, other = (draw(hnp.arrays(dtype, shape, elements=st.one_of(near, near, far))) for _ in range(2))
    low, high = np.minimum(one, other), np.maximum(one, other)
    return np.where(low == np.inf, 0, low).astype(dtype), np.where(high == -np.inf, 0, high).astype(dtype)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box:
    dtype, shape = np.dtype(draw(st.sampled_from([*WHOLE, *REAL, "bool"]))), draw(SHAPES)
    low, high = draw(bounds(dtype, shape))
    return spaces.Box(low, high, shape, dtype.type)


@st.composite
def picture_shapes(draw: st.DrawFn) -> tuple[int, ...]:
    side = st.one_of(st.integers(0, 40), st.sampled_from([64, 84, 96, 97, 210]))
    height, width, channels = draw(side), draw(side), draw(st.sampled_from([1, 3, 4]))
    return draw(st.sampled_from([(height, width), (height, width, channels), (channels, height, width)]))


PICTURES = picture_shapes().map(lambda shape: spaces.Box(0, 255, shape, np.uint8))
COUNTS = st.integers(1, 6)
STARTS = st.one_of(st.integers(-5, 5), st.sampled_from([-(2**62), 2**62]))
DISCRETE = st.builds(
    lambda n, start: spaces.Discrete(n, start=start),
    st.one_of(COUNTS, st.sampled_from([2**20, 2**31, 2**40])),
    STARTS,
)


@st.composite
def multi_discretes(draw: st.DrawFn) -> spaces.MultiDiscrete:
    dtype, shape = np.dtype(draw(st.sampled_from(WHOLE))), draw(hnp.array_shapes(min_dims=0, max_dims=2, max_side=3))
    nvec = draw(hnp.arrays(np.int64, shape, elements=COUNTS))
    starts = st.integers(max(-5, int(np.iinfo(dtype).min)), 5)
    if dtype.itemsize == 8:
        starts = st.one_of(starts, st.just(2**62))
    return spaces.MultiDiscrete(nvec.astype(dtype), dtype, start=draw(hnp.arrays(dtype, shape, elements=starts)))


COUNTED = st.one_of(
    DISCRETE, multi_discretes(), st.one_of(COUNTS, st.lists(COUNTS, min_size=1, max_size=3)).map(spaces.MultiBinary)
)
NUMBERS = st.one_of(boxes(), PICTURES, COUNTED)
STRANGE = st.sampled_from(
    [
        spaces.Text(5),
        spaces.Sequence(spaces.Discrete(2)),
        spaces.Graph(spaces.Box(-1, 1, (2,)), None),
        spaces.OneOf([spaces.Discrete(2), spaces.Discrete(3)]),
    ]
)


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Spaces, and mappings and tuples of them, of which some are empty."""
    return st.recursive(
        leaves,
        lambda parts: st.one_of(
            st.dictionaries(NAMES, parts, max_size=4).map(spaces.Dict), st.lists(parts, max_size=3).map(spaces.Tuple)
        ),
        max_leaves=6,
    )


OBSERVATIONS = st.one_of(nested(NUMBERS), nested(NUMBERS), nested(st.one_of(NUMBERS, STRANGE)))
ACTIONS = st.one_of(
    boxes(), COUNTED, st.lists(boxes(), max_size=3).map(spaces.Tuple), nested(st.one_of(COUNTED, boxes(), STRANGE))
)


def leaves(space: Any) -> list[Any]:
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return [leaf for part in parts for leaf in leaves(part)]
    return [space]


def values(space: Any, random: np.random.Generator) -> Any:
    """An observation that `space` contains: its ends as often as what lies between them."""
    if isinstance(space, spaces.Dict):
        return {key: values(part, random) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(values(part, random) for part in space.spaces)
    if not isinstance(space, spaces.Box):
        return space.sample()
    if space.dtype.kind == "f":
        between = np.clip(random.normal(size=space.shape) * 10.0 ** random.integers(-3, 4), space.low, space.high)
    elif space.dtype == bool:
        between = np.where(space.low == space.high, space.low, random.integers(0, 2, space.shape))
    else:
        between = random.integers(space.low, space.high, space.shape, space.dtype, endpoint=True)
    end = random.integers(0, 4, space.shape)
    value = np.where((end == 0) & np.isfinite(space.low), space.low, between)
    return np.where((end == 1) & np.isfinite(space.high), space.high, value).astype(space.dtype)


def our_action(space: Space, random: np.random.Generator) -> np.ndarray:
    if space.is_discrete:
        return random.integers(0, space.classes, space.shape).astype(np.int32)
    return random.choice([-1.0, 0.0, 1.0, *random.uniform(-1.5, 1.5, 8)], space.shape).astype(np.float32)


def check_value(value: np.ndarray, space: Space) -> None:
    assert isinstance(value, np.ndarray) and (value.shape, str(value.dtype)) == (space.shape, space.dtype)
    if space.is_discrete:
        assert (value >= 0).all() and (value < np.array(space.classes)).all(), (value, space)


def check_named(error: ValueError, owner: str = NAME) -> None:
    """The message begins with the environment, is a line, and no library's."""
    text = str(error)
    assert owner in text and text.endswith(".") and len(text) > len(owner) + 20 and "\n" not in text, text


def total(entries: Mapping[str, Any]) -> int:
    return sum(entry.space.size for entry in entries.values())


@fuzzed(150, OBSERVATIONS, st.sampled_from([None, 16, 64]), st.integers(0, 2**32 - 1))
@example(spaces.Discrete(2**40), None, 0)  # was counted in int32
@example(spaces.Box(0, 255, (0, 3), np.uint8), None, 0)  # was resized
@example(spaces.MultiDiscrete(np.array([], int)), None, 0)
def test_any_observation_is_read_as_promised_or_refused_by_name(space: Any, size: int | None, number: int) -> None:
    parts = leaves(space)
    is_strange = any(isinstance(part, spaces.Text | spaces.Sequence | spaces.Graph | spaces.OneOf) for part in parts)
    is_large = any(isinstance(part, spaces.Discrete) and part.n > 2**20 for part in parts)
    try:
        entries = observation_entries(space, size, NAME)
    except ValueError as error:
        check_named(error)
        is_flat = any(0 in (part.shape or ()) for part in parts)
        assert is_strange or "same name" in str(error) or is_large or is_flat, str(error)
        return
    assert not is_strange and not is_large and len(entries) == len(parts)
    assert all(math.prod(entry.space.shape) for entry in entries.values() if entry.space.is_image)
    assert len({entry.space.shape[:2] for entry in entries.values() if entry.space.is_image}) <= 1
    random = np.random.default_rng(number)
    space.seed(number)
    for _ in range(2):
        obs = values(space, random)
        for entry in entries.values():
            theirs = obs
            for step in entry.path:
                theirs = theirs[step]
            value = entry.read(obs)
            check_value(value, entry.space)
            assert not isinstance(theirs, np.ndarray) or not np.shares_memory(value, theirs)
            check_content(value, np.asarray(theirs), entry.space)


def check_content(value: np.ndarray, theirs: np.ndarray, space: Space) -> None:
    if space.dtype == "float32":
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(value, theirs.astype(np.float32))
    elif space.is_image and sorted(value.shape) == sorted((*theirs.shape, 1)[:3]):
        assert sorted(value.ravel()) == sorted(theirs.ravel())
    elif space.is_image and theirs.size:
        assert theirs.min() <= value.min() and value.max() <= theirs.max()


@fuzzed(150, ACTIONS, st.integers(0, 2**32 - 1))
@example(spaces.Box(0, 0, (), np.int8), 0)  # was no array
@example(spaces.Box(2**63, 2**64 - 1, (1,), np.uint64), 0)  # was 0
@example(spaces.Box(0, 1, (4,), bool), 0)  # was True unless at the very bound
@example(spaces.Box(-1, 1, (0,)), 0)  # was an action of nothing
@example(spaces.Tuple([spaces.Tuple([spaces.Box(0, 0, (), np.int8)])]), 0)
@example(spaces.Tuple([]), 0)  # was said to mix kinds
@example(spaces.MultiDiscrete(np.array([], int)), 0)
@example(spaces.MultiDiscrete(np.array(1, np.int8), np.int8), 0)  # was no array
@example(spaces.MultiDiscrete(np.array([2], np.uint64), np.uint64, start=np.array([2**62], np.uint64)), 0)  # was 0
def test_any_action_lies_inside_its_space_or_the_space_is_refused_by_name(space: Any, number: int) -> None:
    try:
        action = action_of(space, NAME)
    except ValueError as error:
        check_named(error)
        return
    assert action.space.size > 0
    random = np.random.default_rng(number)
    for _ in range(3):
        ours = our_action(action.space, random)
        theirs = action.decode(ours)
        assert space.contains(theirs), (ours, theirs)
        if action.space.is_discrete:
            np.testing.assert_array_equal(counted(space, theirs), ours)
        else:
            check_scale(space, ours, theirs)


def counted(space: Any, value: Any) -> np.ndarray:
    """Choices of theirs as we count them; in the integers of Python, which no type limits."""
    if isinstance(space, spaces.Tuple):
        return np.concatenate([counted(part, one) for part, one in zip(space.spaces, value, strict=True)])
    start = 0 if isinstance(space, spaces.MultiBinary) else np.array(space.start).astype(object)
    return np.array(np.asarray(value).astype(object) - start).reshape(-1).astype(int)


def check_scale(space: Any, ours: np.ndarray, theirs: Any) -> None:
    """-1 is low, 1 is high, and what is between them lies between them, where both exist."""
    if isinstance(space, spaces.Tuple):
        for part, one in zip(space.spaces, theirs, strict=True):
            size = spaces.flatdim(part)
            check_scale(part, ours[:size], one)
            ours = ours[size:]
        return
    low, high = finite_bounds(space.low, space.high)
    expected = low + (np.clip(ours, -1, 1).astype(float).reshape(space.shape) + 1) / 2 * (high - low)
    error = np.abs(theirs.astype(float) - np.clip(expected, space.low.astype(float), space.high.astype(float)))
    unit = 0.5 if space.dtype.kind != "f" else 8 * float(np.finfo(space.dtype).eps) * np.maximum(np.abs(expected), 1)
    assert (error <= unit).all() or not (np.abs(space.low.astype(float)) < 1e10).all(), (expected, theirs)


class Noise:
    """An environment that returns what its spaces allow, and takes only actions that its space contains."""

    render_mode = "rgb_array"

    def __init__(self, observation_space: Any, action_space: Any, draws: bool) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.render_mode = "rgb_array" if draws else None
        self.random = np.random.default_rng(0)

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]:
        self.random = np.random.default_rng(seed)
        return values(self.observation_space, self.random), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), (action, self.action_space)
        observation = values(self.observation_space, self.random)
        return observation, float(self.random.normal()), False, bool(self.random.integers(4) == 0), {}

    def render(self) -> np.ndarray:
        return self.random.integers(0, 256, (20, 30, 3)).astype(np.uint8)


def play(env: Gymnasium, number: int) -> list[Any]:
    """A few rows, each as promised."""
    random, rows = np.random.default_rng(number), [env.reset(number)]
    while len(rows) < 4 and not rows[-1].is_last:
        rows.append(env.step(our_action(env.action_space, random)))
    for row in rows:
        assert row.obs.keys() == env.obs_space.keys()
        for key, value in row.obs.items():
            check_value(value, env.obs_space[key])
    picture = env.frame()
    assert picture is None or (picture.dtype == np.uint8 and picture.shape[2] == 3)
    return [row.obs for row in rows] + [env.simulator_state()]


OBS = st.sampled_from(["auto", "vision", "proprio", "both"])
CALM_OBSERVATIONS, CALM_ACTIONS = (
    nested(NUMBERS),
    st.one_of(boxes(), COUNTED, st.lists(COUNTED, max_size=3).map(spaces.Tuple)),
)


@fuzzed(
    150,
    st.one_of(CALM_OBSERVATIONS, OBSERVATIONS),
    st.one_of(CALM_ACTIONS, ACTIONS),
    OBS,
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
@example(spaces.Dict({}), spaces.Discrete(2), "auto", False, 0)  # was told to use env.obs=auto
@example(spaces.Box(-1, 1, (0,)), spaces.Discrete(2), "auto", False, 0)
@example(spaces.Dict({"image": spaces.Box(-1, 1, (2,))}), spaces.Discrete(2), "both", True, 0)  # was drawn over
def test_any_environment_plays_by_its_spaces_or_is_refused_by_name(
    observation: Any, action: Any, obs: str, draws: bool, number: int
) -> None:
    NOTICES.is_silent = True
    try:
        env = Gymnasium(Noise(observation, action, draws), NAME, obs, 2, None)
    except ValueError as error:
        check_named(error)
        return
    finally:
        NOTICES.is_silent, NOTICES.lines = False, []
    assert env.obs_space and sum(space.size for space in env.obs_space.values())
    kinds = {space.is_image for space in env.obs_space.values()}
    assert kinds == {"vision": {True}, "proprio": {False}, "both": {True, False}}.get(obs, kinds)
    for one, other in zip(play(env, number), play(env, number), strict=True):
        for left, right in zip(
            *(part.values() if isinstance(part, dict) else [part] for part in (one, other)), strict=True
        ):
            np.testing.assert_array_equal(left, right)


@st.composite
def plain_specs(draw: st.DrawFn) -> Any:
    dtype, shape = np.dtype(draw(st.sampled_from([*WHOLE, *REAL, "bool"]))), draw(SHAPES)
    if dtype.kind == "b" or draw(st.booleans()):
        return specs.Array(shape, dtype)
    low, high = draw(bounds(dtype, shape))
    return specs.BoundedArray(shape, dtype, low, high)


PLAIN_SPECS = st.one_of(
    plain_specs(),
    st.builds(lambda n, dtype: specs.DiscreteArray(n, dtype), COUNTS, st.sampled_from(WHOLE)),
    picture_shapes().map(lambda shape: specs.BoundedArray(shape, np.uint8, 0, 255)),
)
STRANGE_SPECS = st.sampled_from([specs.StringArray(()), specs.Array((2,), np.complex64), None, 3, "text"])


def nested_specs(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    containers = lambda parts: st.one_of(st.dictionaries(NAMES, parts, max_size=4), st.lists(parts, max_size=3))  # noqa: E731
    return st.recursive(leaves, containers, max_leaves=6)


class DmNoise(dm_env.Environment):
    """The same with specs of dm_env, which say themselves whether a value fits them."""

    def __init__(self, observation: Any, action: Any) -> None:
        self.specs = observation, action
        self.random = np.random.default_rng(0)

    def observation_spec(self) -> Any:
        return self.specs[0]

    def action_spec(self) -> Any:
        return self.specs[1]

    def seed(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def reset(self) -> dm_env.TimeStep:
        return dm_env.restart(self.observe(self.specs[0]))

    def step(self, action: Any) -> dm_env.TimeStep:
        self.check(action, self.specs[1])
        return dm_env.transition(float(self.random.normal()), self.observe(self.specs[0]))

    def check(self, action: Any, spec: Any) -> None:
        if isinstance(spec, list):
            for one, part in zip(action, spec, strict=True):
                self.check(one, part)
        else:
            spec.validate(action)

    def observe(self, spec: Any) -> Any:
        if isinstance(spec, dict):
            return {key: self.observe(part) for key, part in spec.items()}
        if isinstance(spec, list):
            return [self.observe(part) for part in spec]
        value = np.asarray(spec.generate_value())
        spec.validate(value)
        return value


@fuzzed(
    150,
    st.one_of(nested_specs(PLAIN_SPECS), nested_specs(st.one_of(PLAIN_SPECS, STRANGE_SPECS))),
    st.one_of(PLAIN_SPECS, st.lists(PLAIN_SPECS, max_size=3), STRANGE_SPECS),
    OBS,
    st.integers(0, 2**32 - 1),
)
@example([specs.Array((2,), float)], specs.DiscreteArray(2), "auto", 0)  # was given an int64
@example([specs.Array((2,), float)], specs.Array((), bool), "auto", 0)  # was given an int8 [1]
@example([specs.Array((2,), float)], specs.Array((0,), bool), "auto", 0)  # was refused without its name
@example({"\n": specs.StringArray(())}, specs.DiscreteArray(2), "auto", 0)  # was two lines
def test_any_environment_of_dm_env_plays_by_its_specs_or_is_refused_by_name(
    observation: Any, action: Any, obs: str, number: int
) -> None:
    NOTICES.is_silent = True
    try:
        env = Gymnasium(FromDmEnv(DmNoise(observation, action), NAME), NAME, obs, 1, None)
    except ValueError as error:
        check_named(error)
        return
    finally:
        NOTICES.is_silent, NOTICES.lines = False, []
    play(env, number)

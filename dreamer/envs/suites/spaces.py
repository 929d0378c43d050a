"""From gymnasium's spaces to ours: nested observations flattened by name, actions from [-1, 1] to their bounds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from dreamer.config.bounds import suggestion
from dreamer.config.schema import LOSS_NAMES
from dreamer.envs.drawing.images import channels_last, common_size, is_picture, resize
from dreamer.envs.spec import ActionChoices, ActionRange
from dreamer.types import Space

Path = tuple[str | int, ...]
UNBOUNDED = 1e10  # what some say of an actuator without limits
MOST_VALUES = 2**20  # of all the choices of a space together: each is an entry of what a network gets


class Entry(NamedTuple):
    """One observation key: where it lies in a nested observation, its Space, and how its value becomes an array."""

    path: Path
    space: Space
    encode: Callable[[Any], np.ndarray]

    def read(self, obs: Any) -> np.ndarray:
        for step in self.path:
            obs = obs[step]
        return self.encode(obs)


class Action(NamedTuple):
    """The Space of an action, how one of ours becomes one of theirs, and that in numbers."""

    space: Space
    decode: Callable[[np.ndarray], Any]
    units: ActionRange | ActionChoices


def observation_entries(
    space: spaces.Space, size: int | None, owner: str, leave_out: Sequence[str] = ()
) -> dict[str, Entry]:
    """Key -> Entry of everything that can be observed but the keys of `leave_out`; `sensors.left` for what is nested.

    Pictures become uint8 [h w c] of one size (`common_size`). Discrete, MultiDiscrete and MultiBinary become int32
    [n] counted from 0, all else float32. `owner` is how the user named the environment.
    """
    parts = {_name(path, part): (path, part) for path, part in _parts(space, ())}
    if len(parts) < len(list(_parts(space, ()))):
        raise ValueError(f"{owner} has two observations of the same name among {', '.join(parts)}.")
    for key in leave_out:
        if key not in parts:
            raise ValueError(f"env.leave_out={key} is no observation of {owner}; {suggestion(key, list(parts))}")
    parts = {key: part for key, part in parts.items() if key not in leave_out}
    pictures = {key: _picture_size(part) for key, (_, part) in parts.items() if _is_picture(part)}
    target = common_size(list(pictures.values()), size) if pictures else (0, 0)
    entries = {}
    for key, (path, part) in parts.items():
        told = f"{owner}: observation {key}"
        entries[key] = _picture(path, part, *target, told) if key in pictures else _vector(path, part, told, key)
    return entries


def resized(space: spaces.Space, entries: dict[str, Entry]) -> list[str]:
    """A line for each picture whose size is not the environment's own."""
    sizes = {_name(path, part): _picture_size(part) for path, part in _parts(space, ()) if _is_picture(part)}
    return [
        f"{key} of {size[0]} x {size[1]} pixels is resized to {entries[key].space.shape[0]} x "
        f"{entries[key].space.shape[1]}; env.size=... chooses another size"
        for key, size in sizes.items()
        if key in entries and entries[key].space.shape[:2] != size
    ]


def action_of(space: spaces.Space, owner: str) -> Action:
    """Box: float32 [A] in [-1, 1]; Discrete, MultiDiscrete, MultiBinary: int32 [n] counted from 0; a Tuple of one kind:
    its parts one after another."""
    if isinstance(space, spaces.Box | spaces.MultiDiscrete) and 0 in space.shape:
        raise ValueError(f"{owner}: action {in_a_line(space)} has no entry, so there is nothing to choose.")
    if isinstance(space, spaces.Box):
        return _continuous_action(space)
    if isinstance(space, spaces.Tuple):
        return _tuple_action(space, owner)
    if (counts := _counts(space, f"{owner}: action")) is None:
        raise ValueError(
            f"{owner}: action {in_a_line(space)} is not understood; it may be Box, Discrete, MultiDiscrete, "
            "MultiBinary, or a Tuple of one of these kinds."
        )
    start, shape, dtype = counts.start, space.shape, space.dtype

    def decode(action: np.ndarray) -> Any:
        values = (action.astype(dtype) + start).astype(dtype).reshape(shape)
        return values[()] if isinstance(space, spaces.Discrete) else values  # np.int64(1), not array(1)

    units = ActionChoices(counts.start.astype(np.int64))
    return Action(Space((len(counts.classes),), "int32", counts.classes), decode, units)


def in_a_line(space: spaces.Space, most: int = 200) -> str:
    """A space as a message shows it: bounds of many entries take lines, which say no more."""
    text = " ".join(str(space).split())
    return text if len(text) <= most else f"{text[:most]}..."


def finite_bounds(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high of every action entry, float64; [-1, 1] where one of them is missing."""
    low, high = low.astype(np.float64), high.astype(np.float64)
    is_bounded = (low > -UNBOUNDED) & (high < UNBOUNDED)
    return np.where(is_bounded, low, -1.0), np.where(is_bounded, high, 1.0)


def rescale(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """From [-1, 1], clipped, to [low, high], float64."""
    return low + (np.clip(action, -1.0, 1.0).astype(np.float64) + 1) / 2 * (high - low)


class _Counts(NamedTuple):
    """Choices as we count them: the number of values of each, and what the environment calls the first of them."""

    classes: tuple[int, ...]
    start: np.ndarray


def _counts(space: spaces.Space, owner: str) -> _Counts | None:
    counts = None
    if isinstance(space, spaces.Discrete):
        counts = _Counts((int(space.n),), np.array([space.start]))
    elif isinstance(space, spaces.MultiDiscrete):
        counts = _Counts(tuple(int(n) for n in space.nvec.flat), space.start.reshape(-1))
    elif isinstance(space, spaces.MultiBinary):
        size = int(np.prod(space.shape))
        counts = _Counts((2,) * size, np.zeros(size, np.int64))
    if counts and sum(counts.classes) > MOST_VALUES:
        raise ValueError(
            f"{owner} {in_a_line(space)} has {sum(counts.classes):,} values, each an entry of what a network gets; "
            f"wrap the environment so that it has at most {MOST_VALUES:,}, or numbers instead."
        )
    return counts


def _parts(space: spaces.Space, path: Path) -> Iterator[tuple[Path, spaces.Space]]:
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from _parts(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for index, part in enumerate(space.spaces):
            yield from _parts(part, (*path, index))
    else:
        yield path, space


def _name(path: Path, space: spaces.Space) -> str:
    name = ".".join(plain(step) for step in path)
    name = name or ("image" if _is_picture(space) else "state")
    return f"{name}_" if name in LOSS_NAMES else name


def plain(step: str | int) -> str:
    """A key of theirs in our names."""
    return re.sub(r"[^\w.-]+", "_", str(step))


def _is_picture(space: spaces.Space) -> bool:
    return isinstance(space, spaces.Box) and is_picture(space.shape, space.dtype)


def _picture_size(space: spaces.Space) -> tuple[int, int]:
    assert space.shape is not None
    height, width, _ = channels_last(np.empty(space.shape, np.uint8)).shape
    return height, width


def _picture(path: Path, space: spaces.Space, height: int, width: int, owner: str) -> Entry:
    assert space.shape is not None
    channels = channels_last(np.empty(space.shape, np.uint8)).shape[2]

    def encode(value: Any) -> np.ndarray:
        picture = np.asarray(value)
        if picture.dtype.kind == "f":  # from 0 to 1, most likely, which uint8 makes black
            raise ValueError(f"{owner} is {picture.dtype}, but its space promises uint8, from 0 to 255.")
        return encode_picture(picture, height, width)

    return Entry(path, Space((height, width, channels), "uint8"), encode)


def encode_picture(value: Any, height: int, width: int) -> np.ndarray:
    """What an environment drew, as uint8 [height width c]; a copy, for it may write into its own."""
    return resize(channels_last(np.array(value, np.uint8)), height, width)


def _vector(path: Path, space: spaces.Space, owner: str, key: str) -> Entry:
    if isinstance(space, spaces.Box):
        return Entry(path, Space(space.shape, "float32"), partial(np.array, dtype=np.float32))
    if isinstance(space, spaces.MultiDiscrete) and 0 in space.shape:
        raise ValueError(f"{owner} is {in_a_line(space)}, which has no entry; leave it out.")
    if (counts := _counts(space, owner)) is None:
        raise ValueError(
            f"{owner} is {in_a_line(space)}, which has no fixed shape of numbers; leave it out "
            f"(env.leave_out=[{key}]) or wrap it."
        )
    start = counts.start

    def encode(value: Any) -> np.ndarray:
        return (np.asarray(value).reshape(-1) - start).astype(np.int32)

    return Entry(path, Space((len(counts.classes),), "int32", counts.classes), encode)


def _continuous_action(space: spaces.Box) -> Action:
    """An entry without one of its bounds takes [-1, 1], cut off at the bound that it has."""
    low, high = (bound.reshape(-1) for bound in finite_bounds(space.low, space.high))
    is_whole = space.dtype.kind != "f"

    def decode(action: np.ndarray) -> np.ndarray:
        value = rescale(action, low, high).reshape(space.shape)
        value = np.rint(value) if is_whole else value
        with np.errstate(invalid="ignore"):  # what does not fit the type is cut off
            theirs = value.astype(space.dtype)
        # The bounds themselves, for float64 has no place for every one of int64 and uint64.
        return np.where(value <= space.low, space.low, np.where(value >= space.high, space.high, theirs))

    least, most = (bound.reshape(-1).astype(np.float64) for bound in (space.low, space.high))
    return Action(
        Space((low.size,), "float32"), decode, ActionRange(low, high, least, most, np.full(low.size, is_whole))
    )


def _tuple_action(space: spaces.Tuple, owner: str) -> Action:
    parts = [action_of(part, owner) for part in space.spaces]
    if not parts:
        raise ValueError(f"{owner}: action {in_a_line(space)} has no entry, so there is nothing to choose.")
    if len({part.space.dtype for part in parts}) != 1:
        raise ValueError(
            f"{owner}: action {in_a_line(space)} mixes continuous and discrete parts, which one actor cannot choose."
        )
    ends = np.cumsum([part.space.shape[0] for part in parts])[:-1]

    def decode(action: np.ndarray) -> tuple[Any, ...]:
        return tuple(part.decode(values) for part, values in zip(parts, np.split(action, ends), strict=True))

    classes = tuple(n for part in parts for n in part.space.classes)
    joined = Space((sum(part.space.shape[0] for part in parts),), parts[0].space.dtype, classes)
    return Action(joined, decode, _joined([part.units for part in parts]))


def _joined(units: list[Any]) -> ActionRange | ActionChoices:
    """Units of one kind, of several spaces, as those of one with all their entries."""
    if isinstance(units[0], ActionChoices):
        return ActionChoices(np.concatenate([part.first for part in units]))
    low, high, least, most, is_whole = (
        np.concatenate(column) for column in zip(*(part[:5] for part in units), strict=True)
    )
    return ActionRange(low, high, least, most, is_whole)

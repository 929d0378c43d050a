"""Small replays whose rows tell where they belong, and what is in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.data.replay import Replay
from dreamer.data.storage import Column

COLUMNS = {
    "t": Column((), "int32"),
    "stream": Column((), "int32"),
    "is_first": Column((), "bool"),
    "is_last": Column((), "bool"),
    "deter": Column((2,), "float32"),
    "stoch": Column((1,), "int16"),
}
EPISODE = 7  # rows


def make(directory: Path, **overrides: Any) -> Replay:
    settings: dict[str, Any] = dict(capacity=60, length=5, num_streams=2, storage="ram", seed=0, online=False)
    return Replay(COLUMNS, directory=directory, **(settings | overrides))


def add(replay: Replay, start: int, stop: int, streams: Iterable[int] = (0, 1)) -> None:
    for t in range(start, stop):
        for stream in streams:
            is_first, is_last = t % EPISODE == 0, t % EPISODE == EPISODE - 1
            flags = {"is_first": is_first, "is_last": is_last}
            replay.add(stream, {"t": t, "stream": stream, **flags, "deter": [t, stream], "stoch": [t % 4]})


def write_back(replay: Replay, stream: int, t: int, value: float, count: int = 4) -> None:
    """New latents for rows t, t + 1, ..."""
    deter, stoch = np.full((1, count, 2), value, np.float32), np.full((1, count, 1), value, np.int16)
    replay.write_back(np.array([[stream, t]]), deter, stoch)


def starts(replay: Replay) -> set[tuple[int, int]]:
    """All (stream, start) that uniform draws give; enough draws to meet each of a few dozen."""
    rows, row_ids = replay.sample(5000)
    assert (row_ids == np.stack([rows["stream"][:, 0], rows["t"][:, 1]], 1)).all()
    return {(stream, t - 1) for stream, t in row_ids.tolist()}


def content(replay: Replay) -> dict[str, Any]:
    """Everything that a save keeps: rows and latents in the order of the rows, the queue, and the random state."""
    state = replay.state_dict()
    found = {key: state[key] for key in ("next", "oldest", "queue", "random")}
    for stream, (oldest, after) in enumerate(zip(state["oldest"], state["next"], strict=True)):
        for key in replay.columns if after else ():
            # Through the sampling of a replay, `is_first` of a sequence's begin is another: so read the arrays.
            values = replay._arrays[key][stream, np.arange(oldest, after) % replay.rows]
            found[f"{key} of {stream}"] = values.tolist()
    return found

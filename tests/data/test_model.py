"""Replay against a plain model of it: lists that remember everything, through saves, kills and restores.

The long form: pytest tests/data/test_model.py -m long. Its seed is printed; --hypothesis-seed=N takes another's.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from rings import COLUMNS, content

from dreamer.data.replay import Replay

pytestmark = pytest.mark.usefixtures("without_waiting")
OPERATIONS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, 1), st.integers(1, 9)),
    st.tuples(st.just("end_episode"), st.integers(0, 1)),
    st.tuples(st.just("sample"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("write_back"), st.integers(0, 1), st.integers(0, 12), st.integers(1, 4)),
    st.tuples(st.just("save")),
    st.tuples(st.just("kill"), st.booleans()),
)
CASES = dict(
    operations=st.lists(OPERATIONS, max_size=40),
    storages=st.lists(st.sampled_from(["ram", "disk"]), min_size=1, max_size=3),
    num_streams=st.integers(1, 2),
    rows=st.integers(3, 12),
    length=st.integers(2, 3),
    online=st.booleans(),
)
FORM: dict[str, Any] = dict(
    deadline=None,
    derandomize=False,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


class Lists:
    """Every row that ever came, by stream and number; which of them a ring still holds; the queue."""

    def __init__(self, num_streams: int, rows: int, length: int, online: bool) -> None:
        self.rows, self.length, self.online = rows, length, online
        self.streams: list[list[dict[str, Any]]] = [[] for _ in range(num_streams)]
        self.queue: list[tuple[int, int]] = []

    def oldest(self, stream: int) -> int:
        return max(0, len(self.streams[stream]) - self.rows)

    def add(self, stream: int, row: dict[str, Any]) -> None:
        t = len(self.streams[stream])
        self.streams[stream].append(copy.deepcopy(row))
        if self.online and t and t % self.length == 0:
            self.queue.append((stream, t - self.length + 1))
        while self.queue and self.queue[0][1] < self.oldest(self.queue[0][0]):
            self.queue.pop(0)

    def stored(self, stream: int) -> list[dict[str, Any]]:
        return self.streams[stream][self.oldest(stream) :]

    def items(self) -> set[tuple[int, int]]:
        ends = [len(stream) - self.length + 1 for stream in self.streams]
        return {(stream, t) for stream, end in enumerate(ends) for t in range(self.oldest(stream), end)}


class Both:
    """Replay and its model, side by side; `storages` are those of the processes, in turn."""

    def __init__(self, directory: Path, storages: list[str], sizes: tuple[int, int, int, bool]) -> None:
        self.directory, self.storages, self.sizes = directory, storages, sizes
        self.num_processes, self.value = 0, 0
        self.kept: list[tuple[dict[str, Any], dict[str, Any], Lists]] = []
        self.replay, self.model = self.start(), Lists(*sizes)

    def start(self) -> Replay:
        num_streams, rows, length, online = self.sizes
        storage = self.storages[self.num_processes % len(self.storages)]
        self.num_processes += 1
        return Replay(COLUMNS, rows * num_streams, length, num_streams, storage, self.directory, 0, online)

    def add(self, stream: int, count: int) -> None:
        for _ in range(count):
            self.value += 1
            row = {"t": self.value, "stream": stream, "is_first": self.value % 5 == 0, "is_last": self.value % 7 == 0}
            row |= {"deter": [self.value, 0.5], "stoch": [self.value % 4]}
            self.replay.add(stream, row)
            self.model.add(stream, row)

    def end_episode(self, stream: int) -> None:
        self.replay.end_episode(stream)
        if self.model.streams[stream]:
            self.model.streams[stream][-1]["is_last"] = True

    def sample(self, size: int, is_written_back: bool) -> None:
        if not self.replay.num_items:
            return
        rows, row_ids = self.replay.sample(size)
        for index, (stream, second) in enumerate(row_ids.tolist()):
            while self.model.queue and self.model.queue[0] not in self.model.items():
                self.model.queue.pop(0)
            if self.model.queue:
                assert (stream, second - 1) == self.model.queue.pop(0)
            assert (stream, second - 1) in self.model.items()
            expected = self.model.streams[stream][second - 1 : second - 1 + self.model.length]
            for key in ("t", "stream", "deter", "stoch"):
                assert rows[key][index].tolist() == [row[key] for row in expected]
        if is_written_back:
            for stream, second in row_ids.tolist():
                self.write(stream, second, self.model.length - 1)

    def write_back(self, stream: int, back: int, count: int) -> None:
        self.write(stream, max(0, len(self.model.streams[stream]) - back), count)

    def write(self, stream: int, t: int, count: int) -> None:
        self.value += 1
        if not any(self.model.streams):
            return
        deter, stoch = np.full((1, count, 2), self.value, np.float32), np.full((1, count, 1), self.value % 50, np.int16)
        self.replay.write_back(np.array([[stream, t]]), deter, stoch)
        for number in range(max(t, self.model.oldest(stream)), min(t + count, len(self.model.streams[stream]))):
            self.model.streams[stream][number] |= {"deter": [self.value] * 2, "stoch": [self.value % 50]}

    def save(self) -> None:
        """A checkpoint, and the older of two let go, as a run does."""
        self.replay.save()
        state = self.replay.state_dict()
        self.kept = [*self.kept[-1:], (state, content(self.replay), copy.deepcopy(self.model))]
        self.replay.keep(self.kept[0][0]["generation"])

    def kill(self, is_newer_lost: bool) -> None:
        if is_newer_lost:
            self.kept = self.kept[:1]
        self.replay, self.model = self.start(), Lists(*self.sizes)
        if self.kept:
            state, expected, model = self.kept[-1]
            self.replay.load_state_dict(state)
            self.model = copy.deepcopy(model)
            assert content(self.replay) == expected

    def check(self) -> None:
        assert self.replay.num_items == len(self.model.items())
        found = content(self.replay)
        assert [tuple(entry) for entry in self.replay.state_dict()["queue"]] == self.model.queue
        for stream, rows in enumerate(self.model.streams):
            for key in COLUMNS if rows else ():
                assert found[f"{key} of {stream}"] == [row[key] for row in self.model.stored(stream)], key


def run(
    operations: list[tuple], storages: list[str], num_streams: int, rows: int, length: int, online: bool, **_: Any
) -> None:
    with tempfile.TemporaryDirectory() as name:
        both = Both(Path(name), storages, (num_streams, rows, length, online))
        for operation, *arguments in operations:
            if operation in ("add", "end_episode", "write_back"):
                arguments[0] %= num_streams
            getattr(both, operation)(*arguments)
            both.check()


@settings(max_examples=150, **FORM)
@given(**CASES)
def test_replay_is_what_plain_lists_are(**case: Any) -> None:
    run(**case)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, **FORM)
@given(**CASES)
def test_replay_is_what_plain_lists_are_in_ten_thousand_cases(**case: Any) -> None:
    run(**case)

"""c11: the authors' online queue, sequence flags, write-back and train-ratio schedule; all exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.data.replay import Replay
from dreamer.data.schedule import TrainRatio
from dreamer.data.storage import Column

FLAGS = ("is_first", "is_last", "is_terminal")


@pytest.fixture
def fixture(golden: Callable[[str], Any]) -> Any:
    return golden("c11_replay_ratio")


def fill(fixture: Any, directory: Path) -> tuple[Replay, list[tuple[dict[str, np.ndarray], int, int]]]:
    """Replay with all rows of the fixture, and the sequences that were queued meanwhile: (rows, t, worker) of each.

    Stored latents are those the fixture has after its update, but zero where the update must write.
    """
    length, workers = (int(number) for number in fixture.array("length_workers_chunk")[:2])
    added = {key: fixture.array(f"added/{key}") for key in ("t", "worker", *FLAGS)}
    after, written = fixture.array("update/after_deter"), set(fixture.array("update/seq_t")[1:].tolist())
    times = fixture.array("update/after_t").tolist()
    latents = {t: deter for t, deter in zip(times, after, strict=True) if t not in written}
    nothing = np.zeros(after.shape[1:], np.float32)
    columns = {key: Column((), str(array.dtype)) for key, array in added.items()}
    columns |= {"deter": Column(after.shape[1:], "float32"), "stoch": Column((1,), "int16")}
    replay = Replay(columns, 10_000 * workers, length, workers, "ram", directory, seed=0)
    online = []
    for place in np.ndindex(*added["t"].shape):
        row = {key: array[place] for key, array in added.items()}
        t, worker = int(row["t"]), int(row["worker"])
        replay.add(worker, {**row, "deter": latents.get(t, nothing), "stoch": np.zeros(1, np.int16)})
        while replay.num_queued:
            rows, row_ids = replay.sample(1)
            assert row_ids.tolist() == [[rows["worker"][0, 0], rows["t"][0, 1]]]
            online.append((rows, t, worker))
    return replay, online


def test_online_queue_yields_the_same_sequences_at_the_same_time(fixture: Any, tmp_path: Path) -> None:
    _, online = fill(fixture, tmp_path)
    for key in ("t", "worker", "is_first", "is_last"):
        got = np.concatenate([rows[key] for rows, _, _ in online])
        np.testing.assert_array_equal(got, fixture.array(f"online/{key}"))
    np.testing.assert_array_equal([when for _, *when in online], fixture.array("online/after_add_t_worker"))


def test_every_start_is_one_item_and_every_row_is_kept(fixture: Any, tmp_path: Path) -> None:
    replay, _ = fill(fixture, tmp_path)
    assert replay.num_items == int(fixture.array("items"))
    rows, _ = replay.sample(200 * replay.num_items)
    kept = set(zip(rows["worker"].ravel().tolist(), rows["t"].ravel().tolist(), strict=True))
    assert kept == {tuple(pair) for pair in fixture.array("kept_worker_t").tolist()}
    assert replay.num_rows == len(kept)


def test_write_back_replaces_all_but_the_first_row_of_a_sequence(fixture: Any, tmp_path: Path) -> None:
    replay, _ = fill(fixture, tmp_path)
    worker, new = int(fixture.array("update/worker")), fixture.array("update/new")
    row_ids = np.array([[worker, fixture.array("update/seq_t")[1]]])
    replay.write_back(row_ids, new[None], np.zeros((1, len(new), 1), np.int16))
    rows, _ = replay.sample(200 * replay.num_items)
    expected = dict(zip(fixture.array("update/after_t").tolist(), fixture.array("update/after_deter"), strict=True))
    mine = (rows["worker"] == worker) & np.isin(rows["t"], list(expected))
    assert set(rows["t"][mine].tolist()) == set(expected)
    np.testing.assert_array_equal(rows["deter"][mine], [expected[t] for t in rows["t"][mine].tolist()])


def test_train_ratio_asks_for_the_same_updates(fixture: Any) -> None:
    names = [name.removesuffix("/ratio") for name in fixture.names("ratio") if name.endswith("/ratio")]
    assert names
    for name in names:
        schedule = TrainRatio(float(fixture.array(f"{name}/ratio")), rows_per_update=1)
        got = [schedule(int(step)) for step in fixture.array(f"{name}/step")]
        np.testing.assert_array_equal(got, fixture.array(f"{name}/updates"), err_msg=name)

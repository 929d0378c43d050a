"""Speeds, times left, and pictures that move."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import build_agent, build_batch

from dreamer.agent import Agent
from dreamer.training import report
from dreamer.training.run_log import Every, append_return, check_finite, trim_returns
from dreamer.types import Batch, Space


@pytest.fixture
def clock(monkeypatch):
    """The time that report.Speed reads; assign to clock[0]."""
    now = [100.0]
    monkeypatch.setattr(report.time, "monotonic", lambda: now[0])
    return now


def test_speed_is_of_the_last_minute_and_unknown_at_first(clock):
    speed = report.Speed(seconds=60.0)
    speed.mark(0, 0)
    assert (speed.env_steps, speed.updates) == (0.0, 0.0)
    for second in range(1, 201):  # 20 steps and 2 updates a second, and from second 100 on twice as many
        clock[0] = 100.0 + second
        fast = max(second - 100, 0)
        speed.mark(20 * (second + fast), 2 * (second + fast))
    assert (speed.env_steps, speed.updates) == (pytest.approx(40), pytest.approx(4))
    assert len(speed.marks) <= 62
    speed.forget()
    assert speed.env_steps == 0.0


def test_time_left_follows_from_the_speed_and_the_updates_to_come(tiny, clock):
    words = ["trainer.max_steps=8000", "trainer.train_ratio=32", "trainer.early_ratio=8", "trainer.early_steps=1000"]
    config, speed = tiny(*words), report.Speed()
    assert math.isinf(report.hours_left(config, 0, speed))
    speed.mark(0, 0)
    clock[0] += 10
    speed.mark(100, 1)  # 10 environment steps a second
    speed.update_share = 0.6
    # The first 4,000 environment steps have a fourth of the updates: 3,200 steps at 10 a second, then each takes 0.04 s
    # for collection, as now, and 0.24 for updates.
    assert report.hours_left(config, 800, speed) == pytest.approx((320 + 4000 * 0.28) / 3600)
    assert report.hours_left(config, 4800, speed) == pytest.approx(320 / 3600)
    assert report.hours_left(config, 9000, speed) == 0.0


@pytest.mark.parametrize(
    ("hours", "shown"), [(math.inf, "?"), (0.5, "30 min"), (1.0, "1.0 h"), (47.0, "47.0 h"), (72.0, "3.0 days")]
)
def test_durations_read_well(hours, shown):
    assert report.duration(hours) == shown


def test_start_line_counts_updates_as_the_schedule_does(tiny):
    config = tiny("trainer.max_steps=8320", "trainer.train_ratio=32", "env.action_repeat=4")
    agent = Agent(
        config.model,
        {"height": Space((), "float32"), "dials": Space((2,), "int32", (4, 2))},
        Space((1,), "int32", (6,)),
    )
    text = report.describe_run(config, agent, 1, False, 3 * 10**9, "disk")
    # 2080 policy steps, 80 of them random; 32 of 4 x 16 rows for each: an update in two.
    assert "8,320 environment steps" in text and "2,080 policy steps x action repeat 4" in text
    assert "one update of 4 x 16 every 2 policy steps; about 1,000 updates in all" in text
    assert "80 policy steps with random actions before the first update" in text
    assert "3.00 GB when full, on disk" in text
    config.trainer.early_ratio, config.trainer.early_steps = 8.0, 1080
    text = report.describe_run(config, agent, 1, False, 3 * 10**9, "disk")
    assert (
        "8 (trainer.early_ratio; null: no limit) until policy step 1,080, then 32 replayed steps per policy step"
        in text
    )
    assert "every 8, then 2 policy steps; about 625 updates in all" in text
    config.trainer.early_steps = 2080  # as long as the run
    text = report.describe_run(config, agent, 1, False, 3 * 10**9, "disk")
    assert (
        "8 (trainer.early_ratio; null: no limit) replayed steps" in text and "every 8 policy steps; about 250" in text
    )
    assert "cpu, float32, 1 CPU threads, not compiled" in text and "overlap      false: in turn" in text
    assert "observation  height 1, dials one of 4 x 2; action: one of 6" in text


def test_gif_keeps_number_size_and_colours_of_its_frames(tmp_path):
    frames = [np.full((8, 12, 3), (10 * index, 0, 200 - 9 * index), np.uint8) for index in range(21)]
    data = report.write_gif(tmp_path / "videos" / "film.gif", frames)
    assert (tmp_path / "videos" / "film.gif").read_bytes() == data
    film = Image.open(io.BytesIO(data))
    assert (film.n_frames, film.size, film.info["loop"]) == (21, (12, 8), 0)
    for index, frame in enumerate(frames):
        film.seek(index)
        shown = np.asarray(film.convert("RGB")).astype(int)
        assert abs(shown - frame).max() <= 4, "no frame takes the colours of another"


def test_open_loop_film_stacks_truth_model_and_error_side_by_side_with_coloured_edges():
    truth, model = torch.zeros(2, 3, 8, 8, 3), torch.zeros(2, 3, 8, 8, 3)
    truth[0, :, ..., 0], model[1, :, ..., 2] = 1.0, 1.0  # sequence 0: true red; sequence 1: the model sees blue
    frames = report.open_loop_frames(truth, model, context=2)
    assert len(frames) == 3 and all(frame.shape == (3 * 8, 2 * 8, 3) and frame.dtype == np.uint8 for frame in frames)
    for t, frame in enumerate(frames):
        top, middle, bottom = frame[4], frame[12], frame[20]  # the middle line of each band
        assert (top[4] == [255, 0, 0]).all() and (top[12] == 0).all()
        assert (middle[4] == 0).all() and (middle[12] == [0, 0, 255]).all()
        assert (bottom[4] == [0, 128, 128]).all() and (bottom[12] == [128, 128, 255]).all()
        edge = [0, 200, 0] if t < 2 else [220, 0, 0]
        assert (frame[8:10] == edge).all() and not (frame[10:] == [220, 0, 0]).all(-1).any()


def test_open_loop_film_of_four_channels_leaves_the_last_one_out():
    truth = torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(1, 2, 4, 4, 4)
    assert (report.open_loop_frames(truth, truth, context=1)[0][:4] == [255, 0, 255]).all()


def test_open_loop_film_of_one_channel_is_grey():
    frames = report.open_loop_frames(torch.ones(1, 2, 4, 4, 1), torch.zeros(1, 2, 4, 4, 1), context=1)
    assert frames[0].shape == (12, 4, 3) and (frames[0][:4] == 255).all()


def test_every_is_true_once_for_each_multiple_that_is_passed():
    due = Every(10)
    assert [count for count in range(0, 45, 3) if due(count)] == [12, 21, 30, 42]
    assert due(95) and not due(99), "several at once count as one"
    assert not any(Every(0)(count) for count in range(100))


def test_every_goes_on_where_it_stood():
    due = Every(10)
    due.last = 25
    assert [count for count in range(25, 42) if due(count)] == [30, 40]


def test_returns_beyond_the_checkpoint_are_dropped(tmp_path):
    file = tmp_path / "returns.csv"
    trim_returns(file, 100)
    assert not file.exists()
    for step in (40, 80, 120):
        append_return(file, step, 1.25, 0.5, 7)
    trim_returns(file, 80)
    append_return(file, 90, 2.0, 1.0, 7)
    assert file.read_text().splitlines() == [
        "env_step,wall_seconds,return,length", "40,1.2,0.5000,7", "80,1.2,0.5000,7", "90,2.0,1.0000,7",
    ]  # fmt: skip


def test_returns_torn_by_a_kill_or_empty_do_not_stop_a_resume(tmp_path):
    file = tmp_path / "returns.csv"
    append_return(file, 40, 1.0, 0.5, 7)
    whole = file.read_text()
    for torn in ("80,2", "80", "80,2.0,0.5", ""):
        file.write_text(whole + torn)
        trim_returns(file, 100)
        assert file.read_text() == whole
    file.write_text("")
    trim_returns(file, 100)
    append_return(file, 40, 1.0, 0.5, 7)
    assert file.read_text() == whole


DAMAGED = {
    "": "line 3 is blank",
    "80,2.0": "line 3 has 2 of 4 values",
    "80,2.0,x,7": "line 3 holds something that is no number",
    "\0\0\0": "line 3 has 1 of 4 values",
}


@pytest.mark.parametrize("line", DAMAGED)
def test_damaged_line_of_returns_is_named_and_the_file_kept(tmp_path, capsys, line):
    file, copies = tmp_path / "returns.csv", []
    for name in ("returns.csv.damaged", "returns.csv.damaged2"):
        whole = "env_step,wall_seconds,return,length\n40,1.0,0.5,7\n"
        file.write_text(f"{whole}{line}\n120,3.0,0.5,7\n160,4.0,0.5,7\n")
        copies.append(file.read_text())
        trim_returns(file, 120)
        out = capsys.readouterr().out
        assert f"{file} is damaged: {DAMAGED[line]}" in out and name in out and out.count("\n") == 1
        assert file.read_text() == f"{whole}120,3.0,0.5,7\n"
        assert (tmp_path / name).read_text() == copies[-1]


def test_damaged_header_of_returns_is_named(tmp_path, capsys):
    file = tmp_path / "returns.csv"
    file.write_bytes(b"env_stup,wall_seconds,return,length\r\n40,1.0,\xff,7\r\n80,2.0,0.5,7\r\n")
    trim_returns(file, 120)
    assert "is damaged: line 1 is 'env_stup," in capsys.readouterr().out
    assert file.read_text() == "env_step,wall_seconds,return,length\n80,2.0,0.5,7\n"


def batch_with(**columns: torch.Tensor) -> Batch:
    agent = build_agent()
    batch = build_batch(agent)
    return batch._replace(obs={**batch.obs, **{key: value for key, value in columns.items() if key in batch.obs}},
                          **{key: value for key, value in columns.items() if key not in batch.obs})  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "shown"),
    [
        (None, "lower rates"),
        ({}, "lower rates"),
        ({"reward": torch.full((2, 6), math.inf)}, "since reward of its batch holds values that are not finite"),
        ({"pose": torch.full((2, 6, 2, 3), math.nan)}, "since obs.pose of its batch holds values that are not finite"),
        ({"context_deter": torch.full((2, 24), math.nan)}, "lower rates"),  # the model's own
    ],
)
def test_rates_are_blamed_only_where_the_batch_was_sound(batch, shown):
    metrics = {"loss/total": math.nan, "grad/norm": 1.0}
    with pytest.raises(FloatingPointError, match="loss/total is nan at update 7") as caught:
        check_finite(metrics, 7, None if batch is None else batch_with(**batch))
    assert shown in str(caught.value)
    assert ("lower rates" in str(caught.value)) == (shown == "lower rates")

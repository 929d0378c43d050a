"""What a job's directory says of it, with whatever lies in there."""

from __future__ import annotations

import json
import math
import os
import socket

import pytest

from dreamer.sweep.job import fixed_keys
from dreamer.sweep.state import Record, begun_jobs, read_record, read_state


def test_a_directory_that_is_not_there_is_a_job_that_has_not_begun(tmp_path):
    state = read_state(tmp_path / "7")
    assert (state.word, state.overrides) == ("not begun", []) and math.isnan(state.ret) and math.isnan(state.hours)


def test_a_finished_job_has_the_mean_return_of_its_last_tenth(job):
    path = job(0, [*[0.0] * 18, 4.0, 6.0], is_finished=True, overrides=["seed=1"])  # 2,000 steps: those above 1,800
    state = read_state(path)
    assert (state.word, state.overrides, state.ret, state.hours) == ("finished", ["seed=1"], 5.0, 0.2)


def test_a_job_that_was_stopped_says_where(job):
    path = job(0, [1.0])
    assert read_state(path)[:2] == ("stopped", "")
    Record([], None, 12_345).write(path)
    assert read_state(path)[:2] == ("stopped", "at 12,345")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("error.txt", "Traceback (most recent):\n  File x\nValueError: too bad\n", ("failed", "ValueError: too bad")),
        ("error.txt", "seed=1 brings bad luck; try 2.\nMore.\n", ("failed", "seed=1 brings bad luck; try 2.")),
        ("error.txt", "", ("failed", "")),
        ("pruned.txt", "MedianPruner ends this trial: 3.\n", ("pruned", "MedianPruner ends this trial: 3.")),
    ],
)  # fmt: skip
def test_the_reason_is_in_a_line(job, name, text, expected):
    path = job(0, [1.0])
    (path / name).write_text(text)
    assert read_state(path)[:2] == expected


def test_a_job_whose_process_lives_is_running(job):
    path = job(0, [1.0])
    (path / ".lock_holder").write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    assert read_state(path).word == "running"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"overrides": 3}', '{"other": 1}', '{"finished_at": "now"}', "null"])
def test_a_record_that_is_none_is_taken_for_none(job, text):
    path = job(0)
    (path / "job.json").write_text(text)
    assert read_record(path) is None
    assert read_state(path).word == "not begun"


def test_words_with_one_value_are_not_of_a_job_alone():
    words = ["-m", "trainer.max_steps=1e6", "seed=0,1", "model.encoder.mults=[1,2]", "+env.kwargs.n=range(2,21)"]
    assert fixed_keys(words) == {"trainer.max_steps", "model.encoder.mults"}


def test_jobs_are_in_the_order_of_their_numbers(job, tmp_path):
    for number in (10, 2, 1):
        job(number)
    (tmp_path / "sweep" / "11").mkdir()
    (tmp_path / "sweep" / "11" / "error.txt").write_text("refused\n")
    (tmp_path / "sweep" / "12").mkdir()
    assert [path.name for path in begun_jobs(tmp_path / "sweep")] == ["1", "2", "10", "11"]

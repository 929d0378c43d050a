"""Run directories whole, going on, killed in a line, without TensorBoard, damaged, failed; and what is no run."""

from __future__ import annotations

import json
import os
import socket

import pytest
from event_files import GIF

from dreamer.report import runs
from dreamer.report.runs import read_run, read_runs
from dreamer.training.saving.sessions import SESSIONS_FILE, add_session


def test_a_whole_run_tells_its_steps_returns_evaluation_films_and_machine(make_run, log):
    path = make_run("walker")
    log(path, {"loss/dyn": [(2000, 3.0), (3500, 1.0)], "time/wall_hours": [(3500, 0.5)]})
    (path / "videos").mkdir()
    for step in (2000, 3000):
        (path / "videos" / f"open_loop_image_{step:09d}.gif").write_bytes(GIF)
    (path / "videos" / "eval_episode_000003000.gif").write_bytes(GIF)
    (path / "evaluation.json").write_text(json.dumps({"returns": [1, 3], "env_steps": 3500}))
    add_session(path, 0, "cpu", 2)
    run = read_run(path)
    assert run.env_step == 3500 and run.hours == 0.5
    assert run.curve.ret.tolist() == [1, 2, 4]
    films = [(film.tag, film.env_step, film.width, film.height) for film in run.films]
    assert films == [("eval/episode", 3000, 2, 1), ("open_loop/image", 2000, 2, 1), ("open_loop/image", 3000, 2, 1)]
    assert run.evaluated is not None and (run.evaluated.mean, run.evaluated.std) == (2.0, 1.0)
    assert run.sessions[0]["device"] == "cpu" and run.sessions[0]["threads"] == 2
    assert not run.notes and not run.is_running


def test_returns_and_config_alone_are_enough_and_so_is_a_config_before_the_first_episode(make_run):
    assert read_run(make_run("bare")).env_step == 3000
    new = read_run(make_run("new", returns=[]))
    assert (new.env_step, new.hours, new.notes) == (0, None, [])


def test_half_a_line_of_a_killed_process_is_left_out_in_silence_and_a_damaged_line_is_named(make_run):
    path = make_run("killed")
    with (path / "returns.csv").open("a") as file:
        file.write("4000,4")
    assert read_run(path).curve.ret.tolist() == [1, 2, 4] and not read_run(path).notes
    with (path / "returns.csv").open("a") as file:
        file.write("x,y,z\n5000,50.0,8.0,500\n")
    run = read_run(path)
    assert run.curve.ret.tolist() == [1, 2, 4, 8]
    assert run.notes == [
        "returns.csv is damaged: line 5 holds something that is no number ('4000,4x,y,z'); the sound lines were read"
    ]


def test_sessions_with_logger_csv_follow_each_other_and_a_torn_line_is_left_out(make_run):
    path = make_run("csv")
    for number, text in enumerate(
        [
            "loss/dyn,eval/return_mean,step\n5.0,,1000\n,7.0,1000\n4.0,,2000\n",
            "loss/dyn,step\n3.0,1500\n2.0,2500\n1.0,35",
        ]
    ):
        (path / "csv" / f"version_{number}").mkdir(parents=True)
        (path / "csv" / f"version_{number}" / "metrics.csv").write_text(text)
    run = read_run(path)
    assert run.scalars["loss/dyn"].tolist() == [[1000, 5], [1500, 3], [2500, 2]]
    assert run.scalars["eval/return_mean"].tolist() == [[1000, 7]]
    (path / "csv" / "version_1" / "metrics.csv").write_text("loss/dyn,step\nx,y\n2.0,2500\n")
    assert read_run(path).notes == ["csv/version_1/metrics.csv has 1 lines that cannot be read; the others were"]


@pytest.mark.parametrize(
    ("name", "data", "note"),
    [
        ("evaluation.json", b"{", "evaluation.json is not"),
        ("evaluation.json", b"[1]", "evaluation.json is not"),
        ("evaluation.json", b'{"returns": [1, NaN]}', "evaluation.json is not"),
        ("evaluation.json", b'{"returns": []}', "evaluation.json is not"),
        ("evaluation.json", b"[" * 100_000, "evaluation.json is not"),
        (SESSIONS_FILE, b'{"commit": "a"}\nnothing\n', "sessions.jsonl has a line"),
        ("videos/open_loop_image_000000010.gif", b"<script>", "no whole GIF"),
        ("videos/open_loop_image_000000010.gif", GIF[:-1], "no whole GIF"),
    ],
)
def test_a_damaged_file_beside_is_named_and_the_rest_is_read(make_run, name, data, note):
    path = make_run("spoiled")
    (path / "videos").mkdir()
    (path / name).write_bytes(data)
    run = read_run(path)
    assert len(run.notes) == 1 and note in run.notes[0]
    assert run.curve.ret.tolist() == [1, 2, 4] and not run.films and run.evaluated is None


def test_files_that_are_too_large_are_named_and_not_read(make_run, monkeypatch):
    path = make_run("large")
    (path / "videos").mkdir()
    (path / "videos" / "open_loop_image_000000010.gif").write_bytes(GIF)
    monkeypatch.setattr(runs, "LARGEST_RETURNS", 10)
    monkeypatch.setattr(runs, "LARGEST_FILM", 10)
    run = read_run(path)
    assert not len(run.curve.ret) and not run.films
    assert len(run.notes) == 2 and all("more than a report" in note for note in run.notes)


def test_a_run_is_running_while_the_process_that_holds_it_is_there(make_run):
    path = make_run("held")
    (path / ".lock_holder").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))
    assert read_run(path).is_running
    (path / ".lock_holder").write_text(json.dumps({"host": "elsewhere", "pid": os.getpid()}))
    assert not read_run(path).is_running
    (path / ".lock_holder").write_text("[" * 9999)
    assert not read_run(path).is_running


def test_directories_of_runs_are_searched_and_failed_or_foreign_jobs_are_left_out_by_name(make_run, tmp_path):
    for number in (0, 2, 10):
        make_run(f"sweep/{number}", {"seed": number})
    (tmp_path / "sweep" / "1").mkdir()
    (tmp_path / "sweep" / "1" / "error.txt").write_text("Traceback\nValueError: too bad\n")
    (tmp_path / "sweep" / "2" / "config.yaml").write_text("model: {unheard: 1}\n")
    found, left_out = read_runs([tmp_path / "sweep", tmp_path / "sweep" / "10"])
    assert [run.path.name for run in found] == ["0", "10"], "each once, in the order of their numbers"
    assert [path.name for path, _ in left_out] == ["1", "2"]
    assert left_out[0][1] == "failed: ValueError: too bad" and "unheard" in left_out[1][1]


def test_what_cannot_be_read_is_refused_by_its_name(make_run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"run=.*nowhere is no directory"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match=r"run=.* holds no run, that is no config\.yaml and no returns\.csv"):
        read_runs([tmp_path])
    path = make_run("spoiled")
    config = (path / "config.yaml").read_bytes()
    (path / "config.yaml").write_bytes(config.replace(b"seed: 0", b"seed: 1"))
    with pytest.raises(ValueError, match=r"run: .*spoiled.config\.yaml is damaged or was edited"):
        read_runs([path])
    (path / "config.yaml").unlink()
    with pytest.raises(ValueError, match=r"run: .*spoiled holds no config\.yaml"):
        read_runs([path])
    (path / "config.yaml").write_bytes(b"a" * (runs.LARGEST_TEXT + 1))
    with pytest.raises(ValueError, match="is larger than any config"):
        read_runs([path])
    (path / "config.yaml").write_bytes(config)
    make_run("another", {"seed": 1})
    monkeypatch.setattr(runs, "MOST_RUNS", 1)
    with pytest.raises(ValueError, match="2 runs; a report takes 1"):
        read_runs([tmp_path])

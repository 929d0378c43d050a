"""Runs of train.py with environments in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from short_runs import differing

from dreamer.training.run import prepare

RAY = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
PLACES = {"process": "a process of its own", "ray": "an actor of Ray"}
WORDS = ("env=dummy_counter", "env.obs=both", "env.num_envs=2", "trainer.eval_every=0", "trainer.video_every=0")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes that one signal reaches")
@pytest.mark.parametrize(
    ("workers", "overlap", "number"),
    [
        ("process", "false", signal.SIGINT),
        ("process", "true", signal.SIGINT),
        pytest.param("ray", "false", signal.SIGINT, marks=RAY),
        pytest.param("ray", "true", signal.SIGTERM, marks=RAY),
    ],
)
def test_a_signal_reaches_every_process_and_only_the_run_answers(
    start, wait_until, tmp_path, run_directory, monkeypatch, workers, overlap, number
):
    run, place = run_directory(tmp_path / "run"), short_directory(monkeypatch)
    words = (*WORDS, f"env.workers={workers}", f"trainer.overlap={overlap}", "trainer.max_steps=1e9", "run_dir=run")
    process = start(*words, "trainer.compile=off", process_group=0)
    wait_until(process, lambda: len(run.returns) > 12)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=240)  # which waits for all who hold its pipes
    assert process.returncode == 128 + number, err
    assert f"2 environments at once, each in {PLACES[workers]}" in out and "Stopped at environment step" in out
    assert "Traceback" not in err and "leaked" not in err and "Environment" not in out
    assert len(children) >= 2 and not psutil.wait_procs(children, timeout=30)[1]
    assert not list(place.glob("dreamer_ray*"))
    place.rmdir()


@RAY
@pytest.mark.slow
def test_a_run_that_is_killed_leaves_no_process_of_ray(start, wait_until, tmp_path, run_directory, monkeypatch):
    run, place = run_directory(tmp_path / "run"), short_directory(monkeypatch)
    process = start(*WORDS, "env.workers=ray", "trainer.max_steps=1e9", "run_dir=run", "trainer.compile=off")
    wait_until(process, lambda: len(run.returns) > 2)
    children = psutil.Process(process.pid).children(recursive=True)
    listening = {net.laddr.ip for one in children for net in one.net_connections() if net.status == psutil.CONN_LISTEN}
    assert {ip.removeprefix("::ffff:") for ip in listening} == {"127.0.0.1"}
    (directory,) = place.glob("dreamer_ray*")
    assert directory.stat().st_mode & 0o077 == 0
    process.kill()
    assert len(children) >= 4 and not psutil.wait_procs(children, timeout=150)[1]
    shutil.rmtree(place)


def short_directory(monkeypatch) -> Path:
    """A new directory for temporary files, whose name leaves room for that of a socket, 107 letters in all."""
    path = Path(tempfile.mkdtemp(prefix="d", dir="/tmp" if sys.platform != "win32" else None))
    monkeypatch.setenv("TMPDIR", str(path))
    return path


@pytest.mark.slow
def test_runs_in_turn_in_processes_and_in_actors_compute_the_same(tiny, tmp_path, run_directory):
    runs = []
    for workers in ("serial", "process", *(["ray"] if importlib.util.find_spec("ray") else [])):
        words = (f"run_dir={tmp_path / workers}", "trainer.max_steps=700", f"env.workers={workers}")
        prepare(tiny(*words, *WORDS)).fit()
        runs.append(run_directory(tmp_path / workers))
    assert len({run.checkpoint["dreamer"]["digest"] for run in runs}) == 1
    for run in runs[1:]:
        assert differing(run.checkpoint["state_dict"], runs[0].checkpoint["state_dict"]) == []
        images, others = ((one.path / "replay" / "obs.image.bin").read_bytes() for one in (run, runs[0]))
        assert images == others
        assert [row["return"] for row in run.returns] == [row["return"] for row in runs[0].returns] != []


@pytest.mark.slow
def test_run_goes_on_in_one_process_where_it_stopped_with_several(tiny, tmp_path, run_directory):
    def train(path, max_steps, workers):
        prepare(tiny(f"run_dir={path}", f"trainer.max_steps={max_steps}", *WORDS, f"env.workers={workers}")).fit()
        return run_directory(path)

    train(tmp_path / "broken", 700, "process")
    broken, whole = train(tmp_path / "broken", 1100, "serial"), train(tmp_path / "whole", 1100, "serial")
    assert broken.checkpoint["dreamer"]["digest"] == whole.checkpoint["dreamer"]["digest"]
    for name, weight in whole.checkpoint["state_dict"].items():
        assert weight.equal(broken.checkpoint["state_dict"][name]), name
    assert [row["return"] for row in broken.returns] == [row["return"] for row in whole.returns] != []


@pytest.mark.slow
def test_environment_that_cannot_be_built_is_refused_in_a_line(finish):
    status, _, err = finish(*WORDS, "env.workers=process", "env.name=dummy_counting", "run_dir=run")
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("error: env.name=dummy_counting is not a task of env.suite=dummy;")

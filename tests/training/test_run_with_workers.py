"""Runs of train.py with environments in processes of their own."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from dreamer.training.run import prepare

WORDS = ("env=dummy_counter", "env.obs=both", "env.num_envs=2", "trainer.eval_every=0", "trainer.video_every=0")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no groups of processes that one signal reaches")
@pytest.mark.parametrize("overlap", ["false", "true"])
def test_ctrl_c_reaches_every_process_and_only_the_run_answers(start, wait_until, tmp_path, run_directory, overlap):
    run = run_directory(tmp_path / "run")
    words = (*WORDS, "env.workers=process", f"trainer.overlap={overlap}", "trainer.max_steps=1e9", "run_dir=run")
    process = start(*words, "trainer.compile=off", process_group=0)
    wait_until(process, lambda: len(run.returns) > 12)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=240)  # which waits for all who hold its pipes
    assert process.returncode == 130, err
    assert "2 environments at once, each in a process of its own" in out and "Stopped at environment step" in out
    assert "Traceback" not in err and "leaked" not in err and "Environment" not in out


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

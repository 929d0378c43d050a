"""A run directory has one process: a second one says who holds it and leaves, the lock of one that is gone is free."""

from __future__ import annotations

import os
import time

import pytest
from short_runs import COUNTER, NO_EVALUATION, train

from dreamer.training.run import prepare
from dreamer.training.saving.lock import RunLock

ENDLESS = (
    "env=dummy_counter", "trainer.max_steps=1e9", "trainer.eval_every=0", "trainer.video_every=0", "run_dir=run",
    "trainer.compile=off", "trainer.checkpoint_minutes=0.005",
)  # fmt: skip


@pytest.mark.slow
def test_a_second_process_leaves_and_one_that_was_killed_is_succeeded(start, finish, wait_until, tmp_path):
    process, path = start(*ENDLESS), tmp_path / "run"
    wait_until(process, lambda: (path / "checkpoints" / "last.ckpt").exists())
    status, out, err = finish(*ENDLESS)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: run_dir=run is in use by process {process.pid} on ") and err.count("\n") == 1
    assert "train.py" in err and "Nothing was changed." in err
    process.kill()
    process.communicate()
    status, out, err = finish(*ENDLESS[:1], "trainer.max_steps=1", *ENDLESS[2:])
    assert status == 0 and "resume  " in out, err


@pytest.mark.slow
def test_of_two_processes_that_start_at_once_one_trains(start, wait_until, tmp_path):
    both = [start(*ENDLESS), start(*ENDLESS)]
    while all(process.poll() is None for process in both):
        time.sleep(0.05)
    loser, winner = sorted(both, key=lambda process: process.poll() is None)
    assert loser.returncode == 2
    error = loser.communicate()[1]
    assert error.startswith("error: run_dir=run is in use by process ") and "Traceback" not in error
    wait_until(winner, lambda: (tmp_path / "run" / "checkpoints" / "last.ckpt").exists())


def test_a_directory_is_let_go_where_a_run_cannot_be_prepared_or_is_dropped(tiny, copied, capsys):
    words = (f"run_dir={copied}", "trainer.max_steps=560", *COUNTER, NO_EVALUATION)
    with pytest.raises(ValueError, match="was started with other settings"):
        prepare(tiny(*words, "seed=1"))
    training = prepare(tiny(*words))
    with pytest.raises(ValueError, match=rf"run_dir=.*run is in use by process {os.getpid()} on .* since "):
        prepare(tiny(*words))
    del training
    train(tiny, copied, 560, *COUNTER, NO_EVALUATION)
    RunLock(copied).release()


@pytest.mark.slow
def test_a_directory_that_another_run_has_filled_meanwhile_is_refused(tiny, tmp_path):
    training = prepare(tiny(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=320", *COUNTER, NO_EVALUATION))
    train(tiny, tmp_path / "run", 320, *COUNTER, NO_EVALUATION)
    with pytest.raises(ValueError, match=r"run_dir=.*was new, and now holds a run of another process"):
        training.claim()
    RunLock(tmp_path / "run").release()

"""A sweep: one directory for each job, and a job that fails stops no other."""

from __future__ import annotations

import pytest
import yaml

DUMMY = ("-m", "env=dummy_counter", "trainer.max_steps=480", "trainer.video_every=0", "run_dir=sweep")


@pytest.mark.slow
def test_two_jobs_train_in_directories_of_their_own(finish, tmp_path, run_directory):
    status, _, err = finish(*DUMMY, "seed=0,1")
    assert status == 0, err
    for seed in (0, 1):
        run = run_directory(tmp_path / "sweep" / str(seed))
        assert yaml.safe_load((run.path / "config.yaml").read_text())["seed"] == seed
        assert run.checkpoint["dreamer"]["config"]["seed"] == seed
        assert [row["env_step"] for row in run.returns] == [80, 160, 240, 320, 400, 480]
    one, other = (run_directory(tmp_path / "sweep" / job).checkpoint["state_dict"] for job in "01")
    assert any(not value.equal(other[name]) for name, value in one.items())


@pytest.mark.slow
def test_failing_job_leaves_its_error_and_the_other_one_trains(finish, tmp_path, run_directory):
    status, _, err = finish(*DUMMY, "replay.capacity=10,2000")
    assert status == 2 and "Traceback" not in err
    sweep = tmp_path / "sweep"
    assert (sweep / "0" / "error.txt").read_text().startswith("replay.capacity=10 must be at least ")
    assert not (sweep / "0" / "checkpoints").exists()
    assert run_directory(sweep / "1").checkpoint["dreamer"]["env_steps"] == 480
    assert not (sweep / "1" / "error.txt").exists()

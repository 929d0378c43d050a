"""The table at the end of a sweep, and what its callback does with the processes of jobs."""

from __future__ import annotations

import csv
import os
import pickle
import sys

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf

from dreamer.cli import ending_in_words, is_of_launcher
from dreamer.errors import JobStopped, RunStopped
from dreamer.sweep.begun import Begun, ask_to_stop, is_stopped
from dreamer.sweep.callback import Sweep
from dreamer.sweep.plan import Planned
from dreamer.sweep.table import as_csv, as_text, end_of_sweep, rows_of


@pytest.fixture
def planned(job, tmp_path):
    job(0, [1.0, 2.0], is_finished=True, overrides=["seed=0"])
    (job(1) / "error.txt").write_text(f"Traceback\nValueError: {'very ' * 30}bad\n")
    sweep = tmp_path / "sweep"
    return [Planned(number, sweep / str(number), [f"seed={number}"]) for number in range(3)]


def test_every_planned_job_has_a_row(planned, tmp_path):
    rows = rows_of(tmp_path / "sweep", planned)
    lines = as_text(rows).splitlines()
    assert lines[0].split() == ["job", "overrides", "return", "status", "hours"]
    assert lines[1].split() == ["0", "seed=0", "2.00", "finished", "0.020"]
    assert lines[2].startswith("  1  seed=1             failed: ValueError: very very") and lines[2].endswith("very...")
    assert lines[3].split() == ["2", "seed=2", "not", "begun"]
    table = list(csv.DictReader(as_csv(rows).splitlines()))
    assert [row["job"] for row in table] == ["0", "1", "2"] and table[1]["status"].endswith("very bad")


def test_a_search_has_the_rows_that_have_begun(planned, tmp_path):
    assert [(row.job, row.overrides) for row in rows_of(tmp_path / "sweep", [])] == [("0", "seed=0"), ("1", "")]


def test_a_sweep_that_was_asked_to_stop_says_how_to_go_on(planned, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "seed=0,1,2"])
    sweep = Begun(tmp_path / "sweep", "first", planned, is_search=False)
    ask_to_stop(sweep.directory, "first")
    with pytest.raises(SystemExit) as ended:
        end_of_sweep(sweep)
    out = capsys.readouterr().out
    assert ended.value.code == 130 and (tmp_path / "sweep" / "sweep.csv").is_file()
    assert "To go on: the same command with run_dir=sweep. What is finished is skipped" in out
    assert not is_stopped(sweep.directory, "second"), "jobs of the next start do not mind"


def test_a_sweep_of_which_nothing_began_has_no_table(tmp_path, capsys):
    end_of_sweep(Begun(tmp_path, "x", [Planned(0, tmp_path / "0", [])], is_search=False))
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())


def failed(error: Exception) -> JobReturn:
    job_return = JobReturn(status=JobStatus.FAILED)
    job_return.return_value = error
    return job_return


@pytest.fixture
def callback(tmp_path):
    """As it comes out in the process of a job, which has another id than that of the sweep."""
    sweep = Sweep()
    sweep.pid, sweep.directory, sweep.start = -1, str(tmp_path), "start"
    return pickle.loads(pickle.dumps(sweep))


def test_a_fault_keeps_its_traceback_and_travels_in_words(callback, tmp_path):
    class Unpicklable(Exception):
        pass

    job_return = failed(Unpicklable("oh no"))
    callback.keep(job_return, tmp_path, 4)
    assert (tmp_path / "error.txt").read_text().rstrip().endswith("Unpicklable: oh no")
    words = job_return._return_value
    assert isinstance(words, RunStopped) and str(words).startswith("job 4 failed: ") and pickle.dumps(words)


def test_a_job_that_was_stopped_has_not_failed(callback, tmp_path):
    callback.keep(failed(JobStopped("stopped")), tmp_path, 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("at_once", "own", "share"), [(3, "", "2"), (8, "", "1"), (2, "1", "1"), (1, "5", "5")])
def test_jobs_on_one_machine_share_its_cores(callback, tmp_path, monkeypatch, capfd, at_once, own, share):
    monkeypatch.setattr("dreamer.sweep.callback.free_cores", lambda: 6)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    for key in ("DREAMER_SWEEP_DIR", "DREAMER_SWEEP_START", "DREAMER_JOB_PROCESS"):
        monkeypatch.setenv(key, "")
    monkeypatch.setenv("OMP_NUM_THREADS", own)
    callback.at_once, callback.most_threads = at_once, own
    callback.argv = sys.argv
    config = OmegaConf.create({"hydra": {"runtime": {"output_dir": str(tmp_path)}, "job": {"num": 0}}})
    callback.on_job_start(config)
    os.write(1, b"of the job\n")
    callback.on_job_end(config, JobReturn(status=JobStatus.COMPLETED))
    os.write(1, b"of the sweep\n")
    assert os.environ["OMP_NUM_THREADS"] == share and is_of_launcher()
    assert (tmp_path / "output.txt").read_text() == "of the job\n" and capfd.readouterr().out == "of the sweep\n"


@pytest.mark.parametrize("code", [-1, 144])
def test_a_job_that_submitit_has_queued_again_ends_as_submitit_wants(monkeypatch, code):
    """144 is how its local executor learns of it; 143, of SIGTERM, is a job that was stopped."""
    monkeypatch.setenv("DREAMER_JOB_PROCESS", str(os.getpid()))
    with pytest.raises(SystemExit), ending_in_words():
        sys.exit(code)
    with pytest.raises(JobStopped), ending_in_words():
        sys.exit(143)

"""What Hydra calls around a sweep and each of its jobs (hydra.callbacks.sweep of conf/config.yaml)."""

from __future__ import annotations

import os
import signal
import sys
import traceback
import uuid
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dreamer.cli import JOB_PROCESS, Refusal, accept_schemas, at_end, exit_with
from dreamer.config.compose import register
from dreamer.config.schema import PARENT
from dreamer.errors import JobStopped, RunStopped
from dreamer.report.runs import ERROR_FILE
from dreamer.sweep.begun import Begun
from dreamer.sweep.job import SWEEP_DIR, SWEEP_START
from dreamer.sweep.plan import check_counts, check_extras, is_search, jobs_at_once, plan
from dreamer.sweep.table import end_of_sweep
from dreamer.training.speed.threads import free_cores

OUTPUT_FILE = "output.txt"  # in the directory of a job that a launcher started: what it printed


class Sweep(Callback):
    """Checks a sweep before it begins, shares out the cores, and keeps why a job failed in the job's directory.

    Hydra sends this object with every job, to whatever process a launcher starts for it.
    """

    def __init__(self) -> None:
        self.pid, self.argv = os.getpid(), sys.argv
        self.directory = self.start = ""
        self.at_once = 1
        self.most_threads = os.environ.get("OMP_NUM_THREADS", "")

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register()  # the resolvers of our files, which a fresh process does not know
        accept_schemas()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        if PARENT in os.environ:  # a rank of a job, which has the job's words
            return
        for group in ("launcher", "sweeper"):
            name = config.hydra.runtime.choices.get(f"hydra/{group}")
            if name != "basic":
                exit_with(f"hydra/{group}={name} means nothing for a single run; add -m and values to sweep over.")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            check_extras(config)
            check_counts(config)
            planned = plan(config)
        except ValueError as error:
            exit_with(str(error))
        directory = Path(os.path.abspath(config.hydra.sweep.dir))
        self.directory, self.start = str(directory), uuid.uuid4().hex
        self.at_once = jobs_at_once(config, len(planned))
        begun = Begun(directory, self.start, planned, is_search(str(config.hydra.sweeper.get("_target_"))))
        at_end.append(partial(end_of_sweep, begun))
        os.environ[SWEEP_DIR], os.environ[SWEEP_START] = self.directory, self.start
        if not str(config.hydra.launcher.get("_target_")).endswith(".BasicLauncher"):
            directory.mkdir(parents=True, exist_ok=True)
            begun.listen()
            where = f"{config.hydra.sweep.dir}/<job>/{OUTPUT_FILE}"
            print(f"What the jobs print goes to {where}; Ctrl-C saves and stops them all.", flush=True)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if os.getpid() == self.pid:
            return
        sys.argv = self.argv
        os.environ[JOB_PROCESS] = str(os.getpid())
        os.environ[SWEEP_DIR], os.environ[SWEEP_START] = self.directory, self.start
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the sweep hears it and asks its jobs to stop
        if self.at_once > 1:
            share = max(1, free_cores() // self.at_once)
            own = int(self.most_threads) if self.most_threads.isdecimal() and int(self.most_threads) else share
            os.environ["OMP_NUM_THREADS"] = str(min(share, own))
        self.redirect(Path(config.hydra.runtime.output_dir) / OUTPUT_FILE)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status == JobStatus.FAILED and self.directory:
            self.keep(job_return, Path(config.hydra.runtime.output_dir), int(config.hydra.job.num))
        if os.getpid() != self.pid:
            self.redirect(None)

    def keep(self, job_return: JobReturn, directory: Path, number: int) -> None:
        """Why the job failed, in its directory; on the way to another process, in words that survive it."""
        error = job_return._return_value  # the public property raises it
        if isinstance(error, JobStopped):
            return
        has_words = isinstance(error, Refusal | RunStopped)
        text = str(error) if has_words else "".join(traceback.format_exception(error))
        path = directory / ERROR_FILE
        path.write_text(text.rstrip() + "\n", encoding="utf-8")
        print(f"job {number} failed, see {path}", file=sys.stderr, flush=True)
        if os.getpid() != self.pid and not has_words:
            last = text.rstrip().splitlines()[-1]
            job_return.return_value = RunStopped(f"job {number} failed: {last}\nThe traceback is in {path}.")

    def redirect(self, path: Path | None) -> None:
        """Lets standard output and error of this process go to a file, after what is there; None: back again."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if path is None:
            for number, saved in enumerate(self.saved, start=1):
                os.dup2(saved, number)
                os.close(saved)
            return
        self.saved = [os.dup(1), os.dup(2)]
        with path.open("a", encoding="utf-8") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)

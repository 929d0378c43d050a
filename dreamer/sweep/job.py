"""A job of a sweep in its own process: whether it has to train at all, and what ends it before its time."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from dreamer.cli import Refusal, is_of_launcher
from dreamer.config.compose import to_dict
from dreamer.config.digest import differences
from dreamer.config.file import read_config
from dreamer.config.schema import Config
from dreamer.errors import JobStopped
from dreamer.report.runs import ERROR_FILE
from dreamer.sweep.begun import is_stopped
from dreamer.sweep.plan import is_search
from dreamer.sweep.pruning import Judge, Pruning
from dreamer.sweep.state import PRUNED_FILE, Record, begun_jobs, curve_of, read_record, reason, return_of
from dreamer.training.saving.disk import write_whole

SWEEP_DIR, SWEEP_START = "DREAMER_SWEEP_DIR", "DREAMER_SWEEP_START"
"""Environment of the jobs: where their sweep lies, and which of its starts began them."""


class Job:
    """What a run asks of its sweep (training/stopping.py: Outside), and what it leaves in its directory."""

    def __init__(self, config: Config, judge: Judge | None, is_trial: bool) -> None:
        self.is_trial = is_trial
        self.config, self.run_dir = config, Path(config.run_dir)
        self.sweep_dir, self.start = Path(os.environ[SWEEP_DIR]), os.environ[SWEEP_START]
        self.judge, self.parent = judge, os.getppid()

    def is_stopped(self) -> bool:
        """Also where the process that started this one is gone, and nobody waits for the job any more."""
        is_orphan = is_of_launcher() and os.getppid() != self.parent
        return is_orphan or is_stopped(self.sweep_dir, self.start)

    def hopeless(self, env_step: int) -> str | None:
        return self.judge.hopeless(env_step) if self.judge else None

    def is_done(self) -> bool:
        """Whether an earlier start of the sweep has finished or pruned this very run, and may be asked for it again."""
        record = read_record(self.run_dir)
        is_pruned = (self.run_dir / PRUNED_FILE).is_file()
        if record is None or self.config.resume != "auto" or (record.finished_at is None and not is_pruned):
            return False
        old = read_config(self.run_dir)
        if differences(to_dict(old), to_dict(self.config)):
            return False  # the run itself refuses to go on, and says why
        is_done = is_pruned or (record.finished_at or 0) >= self.config.trainer.max_steps
        if is_done:  # what a start that was refused has left here says nothing of the run
            (self.run_dir / ERROR_FILE).unlink(missing_ok=True)
        return is_done

    def begin(self) -> None:
        (self.run_dir / ERROR_FILE).unlink(missing_ok=True)
        (self.run_dir / PRUNED_FILE).unlink(missing_ok=True)
        fixed = fixed_keys(sys.argv[1:])
        own = [word for word in HydraConfig.get().overrides.task if word.partition("=")[0] not in fixed]
        Record(own).write(self.run_dir)

    def stopped(self, env_step: int) -> None:
        record = read_record(self.run_dir) or Record()
        record.stopped_at = env_step
        record.write(self.run_dir)

    def end(self, pruned: str | None) -> float:
        """Once training has come to its end: keeps why, and returns what the run is judged by, nan without episode."""
        (self.run_dir / ERROR_FILE).unlink(missing_ok=True)
        if pruned is not None:
            write_whole(self.run_dir / PRUNED_FILE, f"{pruned}\n".encode())
        else:
            record = read_record(self.run_dir) or Record()
            record.finished_at, record.stopped_at = int(self.config.trainer.max_steps), None
            record.write(self.run_dir)
        return self.ret

    @property
    def ret(self) -> float:
        """Refusal for a trial that nothing can be said of: a search takes no nan."""
        curve = curve_of(self.run_dir)
        ret = math.nan if curve is None else return_of(curve)
        if self.is_trial and math.isnan(ret):
            raise Refusal(f"run_dir={self.run_dir} has no episode that ended, so the search cannot judge it.")
        return ret


def job_of_sweep(config: Config) -> Job | None:
    """None outside of a sweep. JobStopped where the sweep was stopped before this job began; Refusal for a trial of a
    search that failed in an earlier start, since trials after it were chosen knowing that."""
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN or SWEEP_DIR not in os.environ:
        return None
    callbacks: Any = OmegaConf.to_container(OmegaConf.create(hydra.callbacks), resolve=True)
    judge = None
    if "prune" in callbacks:
        values = {key: value for key, value in callbacks["prune"].items() if key != "_target_"}
        judge = Judge(Pruning(**values), Path(os.environ[SWEEP_DIR]), Path(config.run_dir), config.trainer.max_steps)
    is_trial = is_search(str(hydra.sweeper.get("_target_")))
    job = Job(config, judge, is_trial)
    if job.is_stopped():
        raise JobStopped(f"run_dir={config.run_dir} has not begun: the sweep was asked to stop.")
    later = [path for path in begun_jobs(job.sweep_dir) if int(path.name) > hydra.job.num]
    error = job.run_dir / ERROR_FILE
    if later and is_trial and error.is_file() and not job.is_done():
        raise Refusal(reason(error))
    return job


def fixed_keys(words: list[str]) -> set[str]:
    """Keys that were typed with one value, so that all jobs have it."""
    parser = OverridesParser.create()
    keys: set[str] = set()
    for word in words:
        if "=" in word and not word.startswith("-") and not parser.parse_override(word).is_sweep_override():
            keys.add(word.partition("=")[0])
    return keys

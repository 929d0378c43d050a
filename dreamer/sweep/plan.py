"""What a sweep is going to do, looked at before it begins: its jobs, their directories, and what it needs."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from dreamer.envs.suites.imports import install_command

NEEDS = {  # beginning of what Hydra starts -> module that must be there, extra that brings it
    "hydra_plugins.hydra_joblib_launcher": ("hydra_plugins.hydra_joblib_launcher", "joblib"),
    "hydra_plugins.hydra_submitit_launcher": ("hydra_plugins.hydra_submitit_launcher", "slurm"),
    "hydra_plugins.dreamer_ray_launcher": ("ray", "ray"),
    "hydra_plugins.hydra_optuna_sweeper": ("hydra_plugins.hydra_optuna_sweeper", "optuna"),
}
PLAIN_SUBDIR = "${hydra.job.num}"


class Planned(NamedTuple):
    """A job: its number, where it will lie, and the words that are its own."""

    number: int
    directory: Path
    overrides: list[str]


def check_extras(config: DictConfig) -> None:
    """ValueError, with the command that installs it, where launcher or sweeper are of an extra that is absent."""
    for group in ("launcher", "sweeper"):
        target = str(config.hydra[group].get("_target_"))
        for start, (module, extra) in NEEDS.items():
            if target.startswith(start) and not is_there(module):
                name = config.hydra.runtime.choices.get(f"hydra/{group}")
                raise ValueError(
                    f"hydra/{group}={name} needs a package that is not installed: {install_command(extra)}"
                )


def check_counts(config: DictConfig) -> None:
    """ValueError for numbers of jobs at once with which launcher or sweeper would wait for ever."""
    launcher, sweeper = config.hydra.launcher.get("n_jobs"), config.hydra.sweeper.get("n_jobs")
    if launcher is not None and (launcher == 0 or launcher < -1):
        raise ValueError(f"hydra.launcher.n_jobs={launcher} must be at least 1, or -1 for one job on each core.")
    if sweeper is not None and sweeper < 1:
        raise ValueError(f"hydra.sweeper.n_jobs={sweeper} must be at least 1: how many trials are chosen at once.")


def is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def is_search(sweeper: str) -> bool:
    """Whether the sweeper chooses what comes next by what came out before."""
    return not sweeper.endswith(".BasicSweeper")


def plan(config: DictConfig) -> list[Planned]:
    """All jobs, where they are known from the start: a search chooses its own as it goes, and has none here.

    ValueError where two would share a directory.
    """
    if is_search(str(config.hydra.sweeper.get("_target_"))):
        return []
    loader = GlobalHydra.instance().config_loader()
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.params or {}).items()]
    try:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides([*params, *config.hydra.overrides.task])
        (jobs,) = BasicSweeper.split_arguments(parsed, None)
    except HydraException:  # which Hydra raises again, for the user to read
        return []
    swept = {override.get_key_element() for override in parsed if override.is_sweep_override()}
    as_written: Any = OmegaConf.to_container(config, resolve=False)
    is_plain = (
        as_written["hydra"]["sweep"]["subdir"] == PLAIN_SUBDIR
        and "run_dir" not in swept
        and "${" not in as_written["run_dir"]
    )
    planned: list[Planned] = []
    first = Path(config.hydra.sweep.dir)  # resolved before the jobs are composed, which then have the same ${now:...}
    for number, overrides in enumerate(jobs):
        own = [word for word in overrides if word.partition("=")[0] in swept]
        if is_plain:
            directory = first / str(number)
        else:
            job = loader.load_sweep_config(config, overrides)
            with open_dict(job):
                job.hydra.job.num = job.hydra.job.id = number
            directory = Path(job.hydra.sweep.dir) / str(job.hydra.sweep.subdir)
        planned.append(Planned(number, Path(os.path.abspath(directory)), own))
    check_shared(planned)
    return planned


def check_shared(planned: list[Planned]) -> None:
    """ValueError where two jobs would write to one directory."""
    first: dict[Path, Planned] = {}
    for job in planned:
        other = first.setdefault(job.directory, job)
        if other is not job:
            raise ValueError(
                f"jobs {other.number} ({' '.join(other.overrides)}) and {job.number} ({' '.join(job.overrides)}) would "
                f"share the run_dir {job.directory}; leave hydra.sweep.subdir={PLAIN_SUBDIR} as it is."
            )


def jobs_at_once(config: DictConfig, num_jobs: int) -> int:
    """How many jobs one machine has to share its cores among; 1 where a scheduler gives each its own."""
    target, launcher = str(config.hydra.launcher.get("_target_")), config.hydra.launcher
    most = num_jobs or int(config.hydra.sweeper.get("n_jobs") or 1)
    if target.endswith(".JoblibLauncher"):
        wish = int(launcher.n_jobs)
        return max(1, min(wish if wish > 0 else os.cpu_count() or 1, most))
    return max(1, most) if target.endswith(".LocalLauncher") else 1

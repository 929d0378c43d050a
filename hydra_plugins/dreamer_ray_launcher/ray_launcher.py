"""hydra/launcher=ray: each job of a sweep is a Ray task, on this machine or on a cluster.

Hydra takes launchers from this package alone. hydra-ray-launcher 1.2.2 is not used: it wants cloudpickle<3, which ended
before Python 3.12, and one worker that dies ends its whole sweep.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class RayLauncher(Launcher):
    """`init`: arguments of ray.init. `remote`: what Ray gives each job, as arguments of ray.remote."""

    def __init__(self, init: DictConfig, remote: DictConfig) -> None:
        self.init: Any = OmegaConf.to_container(init, resolve=True)
        self.remote: Any = OmegaConf.to_container(remote, resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        import ray

        setup_globals()
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        if not ray.is_initialized():
            ray.init(**self.init)
        task: Any = ray.remote(**self.remote)(execute)
        configs = [self.job_config(words, initial_job_idx + index) for index, words in enumerate(job_overrides)]
        state = Singleton.get_state()
        started = [
            task.remote(self.hydra_context, self.task_function, config, state, os.getcwd()) for config in configs
        ]
        return [self.result(ref, config) for ref, config in zip(started, configs, strict=True)]

    def job_config(self, words: Sequence[str], number: int) -> DictConfig:
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(words))
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, f"ray_{number}"
        return config

    def result(self, ref: Any, config: DictConfig) -> JobReturn:
        """What the job gives; of one whose process Ray has lost for good, the failure that it could not tell itself."""
        import ray
        from ray.exceptions import RayError

        try:
            return ray.get(ref)
        except RayError as error:
            place = Path(str(config.hydra.sweep.dir)) / str(config.hydra.sweep.subdir)
            place.mkdir(parents=True, exist_ok=True)
            with open_dict(config):
                config.hydra.runtime.output_dir = str(place.absolute())
            lost = JobReturn(overrides=list(config.hydra.overrides.task), status=JobStatus.FAILED)
            lost.return_value = error
            self.hydra_context.callbacks.on_job_end(config=config, job_return=lost)
            return lost


def execute(
    hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig, state: Any, directory: str
) -> JobReturn:
    """In the process that Ray starts; on another machine the directory, if it is there, has to be the same one."""
    os.chdir(directory)
    setup_globals()
    Singleton.set_state(state)
    HydraConfig.instance().set_config(config)
    return run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )

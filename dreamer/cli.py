"""From a command line to `main`: what the user typed wrong becomes a line or two, our own faults keep a traceback."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from dreamer.config.bounds import check_bounds, suggestion
from dreamer.config.compose import as_fields, parse
from dreamer.config.error_words import NAMELESS, check_words, describe, printable
from dreamer.config.schema import Config
from dreamer.envs.suites.imports import install_command
from dreamer.errors import SIGNALS, JobStopped, RunStopped

T = TypeVar("T")
WORDS_ALONE = "DREAMER_WORDS_ALONE"  # in the environment of the processes that a sweep starts
JOB_PROCESS = "DREAMER_JOB_PROCESS"  # there: which one it is, for others inherit it
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and WORDS_ALONE not in os.environ

at_end: list[Callable[[], None]] = []
"""What is done before the process ends or tells an error, however main has ended; each may end it in its own way."""


class Refusal(Exception):
    """What the user has to change, in a line or two."""


def run(main: Callable[[], Any], schema: type = Config) -> None:
    """Call a function made by @hydra.main whose config is `schema`; bad input ends the process with status 2."""
    if WANTS_TRACEBACK:
        _call(main)
        return
    for flag in ("-m", "--multirun"):
        if flag in sys.argv[2:]:  # Hydra's parser takes key=value on one side of it only
            sys.argv.remove(flag)
            sys.argv.insert(1, flag)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints a report of its own and exits
    os.environ[WORDS_ALONE] = "1"
    accept_schemas()
    try:
        check_words(sys.argv[1:], schema)
        _call(main)
    except Refusal as error:
        exit_with(str(error))
    except RunStopped as error:  # of a multirun, once its other jobs are done
        exit_with(str(error), status=1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, MarkedYAMLError) as error:
        exit_with(_absent_extra(error) or printable(describe(error, schema)))
    except ValueError as error:
        if not str(error).startswith(NAMELESS):
            raise
        exit_with(printable(describe(error, schema)))


def _absent_extra(error: Exception) -> str | None:
    """What to say where a config is missing that comes with a package of an extra."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file == "hydra/sweeper/optuna":
        return f"hydra/sweeper=optuna needs a package that is not installed: {install_command('optuna')}"
    return None


def accept_schemas() -> None:
    """Files of conf/hydra/launcher are checked by the schemas of the same names that the launchers bring, as intended.

    Hydra warns of that, since it once meant to end it; 1.3 still does it.
    """
    warnings.filterwarnings("ignore", message=r"\s*'hydra/launcher/.*is validated against ConfigStore schema")


def _call(main: Callable[[], Any]) -> None:
    try:
        main()
    finally:
        for end in at_end:
            end()


@contextmanager
def refusing_bad_input() -> Iterator[None]:
    """Wraps what comes before training: a ValueError in there is the user's, and its message all there is to say."""
    try:
        yield
    except (ValueError, OmegaConfBaseException) as error:
        if WANTS_TRACEBACK:
            raise
        message = printable(describe(error, Config) if isinstance(error, OmegaConfBaseException) else str(error))
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise Refusal(message) from error  # the other jobs go on
        exit_with(message)


@contextmanager
def ending_in_words() -> Iterator[None]:
    """Wraps training: where something outside of the program ends it, RunStopped says all there is to say.

    A signal ends the process of a run, and a sweep whose jobs run in that; a process that a launcher started goes on.
    """
    try:
        yield
    except SystemExit as ended:
        # Other codes are the launcher's own: -1 and 144 of submitit, which has queued the job again.
        is_signal = isinstance(ended.code, int) and ended.code - 128 in SIGNALS
        if is_signal and is_of_launcher():
            raise JobStopped(f"stopped, status {ended.code}: all of it is saved.") from None
        raise
    except RunStopped as stopped:
        if WANTS_TRACEBACK or HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # the other jobs of a multirun go on
        exit_with(str(stopped), status=1)


def is_of_launcher() -> bool:
    """Whether a launcher of Hydra has started this process for a job of a sweep."""
    return os.environ.get(JOB_PROCESS) == str(os.getpid())


def job_config(cfg: DictConfig) -> DictConfig:
    """The config of this job: in a multirun, run_dir is the directory that Hydra made for the job."""
    hydra = HydraConfig.get()
    check_preset(hydra.runtime.choices)
    if hydra.mode == RunMode.MULTIRUN:
        return OmegaConf.merge(cfg, {"run_dir": hydra.runtime.output_dir})  # pyright: ignore[reportReturnType]
    return cfg


def words_of_job() -> list[str]:
    """What was typed for this job, in a multirun its own values of the sweep, with the directories of configs."""
    words = sys.argv[1:]
    places = [
        [word] if "=" in word else words[index : index + 2]
        for index, word in enumerate(words)
        if word.partition("=")[0] in ("--config-dir", "-cd", "--config-name", "-cn")
    ]
    return [*(word for place in places for word in place), *HydraConfig.get().overrides.task]


def check_preset(choices: Mapping[str, Any]) -> None:
    """ValueError for a preset that is not there: Hydra leaves it out, since none comes with most models."""
    preset = choices.get("preset")
    options = GlobalHydra.instance().config_loader().get_group_options("preset")
    if preset not in (None, choices.get("model"), *options):
        raise ValueError(f"unknown preset '{preset}'; {suggestion(str(preset), options)}")


def own_options(cfg: DictConfig, schema: type[T]) -> T:
    """What a script takes that has no keys of training, checked."""
    if "checkpoint" in OmegaConf.missing_keys(cfg):
        raise ValueError("checkpoint has no value; give checkpoint=<run directory or checkpoint file>.")
    values = cast(dict[str, Any], OmegaConf.to_container(cfg))
    if "env" in values:
        values["env"] = as_fields(values["env"])
    options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), values))
    assert isinstance(options, schema)
    check_bounds(options)
    return options


def check_output(key: str, path: str | None, *suffixes: str) -> None:
    """ValueError before the work is done, not after, where the file that `key` names cannot be written."""
    if path is None:
        return
    if suffixes and Path(path).suffix.lower() not in suffixes:
        raise ValueError(f"{key}={path} must end in {' or '.join(suffixes)}.")
    if not Path(path).parent.is_dir():
        raise ValueError(f"{key}={path}: the directory {Path(path).parent} does not exist.")


def script_options(cfg: DictConfig, schema: type[T]) -> T:
    """What a script that takes every key of training takes in addition, checked."""
    own = OmegaConf.masked_copy(cfg, [item.name for item in fields(schema)])  # pyright: ignore[reportArgumentType]
    options = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), own))
    assert isinstance(options, schema)
    check_bounds(options)
    return options


def training_config(cfg: DictConfig) -> Config:
    """The keys of training among those of such a script."""
    return parse(OmegaConf.masked_copy(cfg, [item.name for item in fields(Config)]))


def exit_with(message: str, status: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)

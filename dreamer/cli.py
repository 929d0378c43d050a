"""From a command line to `main`: what the user typed wrong becomes a line or two, our own faults keep a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from dreamer.config.bounds import check_bounds, suggestion
from dreamer.config.compose import as_fields, parse
from dreamer.config.error_words import NAMELESS, check_words, describe, printable
from dreamer.config.schema import Config
from dreamer.errors import RunStopped

T = TypeVar("T")
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1"


class Refusal(Exception):
    """What the user has to change, in a line or two."""


def run(main: Callable[[], Any], schema: type = Config) -> None:
    """Call a function made by @hydra.main whose config is `schema`; bad input ends the process with status 2."""
    if WANTS_TRACEBACK:
        main()
        return
    for flag in ("-m", "--multirun"):
        if flag in sys.argv[2:]:  # Hydra's parser takes key=value on one side of it only
            sys.argv.remove(flag)
            sys.argv.insert(1, flag)
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints a report of its own and exits
    try:
        check_words(sys.argv[1:], schema)
        main()
    except Refusal as error:
        _exit(str(error))
    except RunStopped as error:  # of a multirun, once its other jobs are done
        _exit(str(error), status=1)
    except KeyboardInterrupt:
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, MarkedYAMLError) as error:
        _exit(printable(describe(error, schema)))
    except ValueError as error:
        if not str(error).startswith(NAMELESS):
            raise
        _exit(printable(describe(error, schema)))


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
        _exit(message)


@contextmanager
def ending_in_words() -> Iterator[None]:
    """Wraps training: where something outside of the program ends it, RunStopped says all there is to say."""
    try:
        yield
    except RunStopped as stopped:
        if WANTS_TRACEBACK or HydraConfig.get().mode == RunMode.MULTIRUN:
            raise  # the other jobs of a multirun go on
        _exit(str(stopped), status=1)


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


class KeepError(Callback):
    """Writes why a job of a multirun failed into its directory: Hydra reports only the first failure, at the end."""

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status != JobStatus.FAILED or config.hydra.mode != RunMode.MULTIRUN:
            return
        error = job_return._return_value  # the public property raises it
        text = str(error) if isinstance(error, Refusal | RunStopped) else "".join(traceback.format_exception(error))
        path = Path(config.hydra.runtime.output_dir) / "error.txt"
        path.write_text(text.rstrip() + "\n", encoding="utf-8")
        print(f"job {config.hydra.job.num} failed, see {path}", file=sys.stderr, flush=True)


def _exit(message: str, status: int = 2) -> NoReturn:
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(status)

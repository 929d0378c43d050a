"""Where the numbers, films and settings of a run go: one of Lightning's loggers, which goes on with the run."""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]

from dreamer.config.file import CONFIG_FILE
from dreamer.config.schema import LoggerConfig
from dreamer.envs.suites.imports import install_command
from dreamer.errors import RunStopped
from dreamer.training.saving.disk import write_whole

LOGGED_AS = ".logged_as"
"""In run_dir: under which name its run goes on at Weights & Biases, or in MLflow, as `<logger> <name>`."""
SECONDS_TO_CONNECT = 5.0
AXIS = "trainer/global_step"
"""As Lightning calls what W&B draws everything against; here it counts environment steps."""


def check_logger(config: LoggerConfig) -> None:
    """ValueError for a package, an account or a server that is not there, before anything slow starts."""
    package = {"wandb": "wandb", "mlflow": "mlflow"}.get(config.name)
    if package is None:
        return
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"logger={config.name} needs the package {package}; {install_command(config.name)}")
    if config.name == "wandb" and _is_online(config) and not _has_account():
        raise ValueError(
            "logger=wandb needs an account: run `wandb login`, set WANDB_API_KEY, or give logger.offline=true for "
            "files in run_dir alone."
        )
    if config.name == "mlflow":
        _check_server(config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", ""))


def build_logger(config: LoggerConfig, run_dir: Path, resumed_at: int | None) -> Logger:
    """The logger of `config` for a run that begins, or goes on at environment step `resumed_at`.

    Those of Weights & Biases and MLflow are connected to here; RunStopped where that fails.
    """
    if config.name == "csv":
        return CSVLogger(run_dir, name="csv")  # a file for each session, since it empties what it finds
    if config.name == "tensorboard":
        # What an earlier session logged beyond this point is void: those steps are taken again.
        purge = 0 if resumed_at is None else resumed_at + 1
        return TensorBoardLogger(run_dir, name="", version="", default_hp_metric=False, purge_step=purge)
    name = "/".join(run_dir.resolve().parts[-2:])
    known = None if resumed_at is None else _known_name(config, run_dir)
    with _in_words():
        if config.name == "wandb":
            logger = _wandb(config, run_dir, name, known)
            _ = logger.experiment  # connects
        else:
            logger = _mlflow(config, run_dir, name, known)
            _ = logger.run_id
    return logger


@contextmanager
def _in_words() -> Iterator[None]:
    """RunStopped, in a line, where Weights & Biases or a server of MLflow refuses the run."""
    try:
        yield
    except Exception as error:
        package = type(error).__module__.partition(".")[0]
        if package not in ("wandb", "mlflow"):
            raise
        raise RunStopped(
            f"logger={package} cannot be used: {(str(error).strip() or repr(error)).splitlines()[0]}"
        ) from error


def log_config(logger: Logger, values: dict[str, Any], config: LoggerConfig, run_dir: Path) -> None:
    """The settings of a run as flat values, and where files can be kept as config.yaml; RunStopped where the logger
    cannot be used. Comes before all other calls of it."""
    if isinstance(logger, TensorBoardLogger):
        logger.hparams.update(values)  # `log_hyperparams` comes at the end, with the last return
        return
    with _in_words():
        if isinstance(logger, MLFlowLogger):
            run_id = str(logger.run_id)
            run = logger.experiment.get_run(run_id)
            if run.info.status != "RUNNING":
                logger.experiment.update_run(run_id, status="RUNNING")
            # It takes a value once, and a later session may have another max_steps.
            values = {key: value for key, value in values.items() if key not in run.data.params}
            logger.experiment.log_artifact(run_id, str(run_dir / CONFIG_FILE))
        logger.log_hyperparams(values)
    if isinstance(logger, MLFlowLogger | WandbLogger):
        write_whole(run_dir / LOGGED_AS, f"{config.name} {logger.version}\n".encode())


def log_film(logger: Logger | None, tag: str, path: Path, shape: tuple[int, ...], env_step: int) -> None:
    """The GIF at `path`, whose frames have the `shape` [h w c], under `tag`."""
    if isinstance(logger, TensorBoardLogger):
        image = Summary.Image(encoded_image_string=path.read_bytes(), height=shape[0], width=shape[1], colorspace=3)
        writer = logger.experiment._get_file_writer()  # add_video needs moviepy 1 and is silent without it
        assert writer is not None
        writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), env_step)
    elif isinstance(logger, WandbLogger):
        import wandb

        logger.experiment.log({tag: wandb.Video(str(path), format="gif"), AXIS: env_step})
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_artifact(str(logger.run_id), str(path), "videos")


def end_logger(logger: Logger) -> None:
    """Have everything written, and leave nothing that the next run of this process would go on with."""
    if isinstance(logger, WandbLogger) and logger._experiment is not None:
        logger.experiment.finish()


def _wandb(config: LoggerConfig, run_dir: Path, name: str, known: str | None) -> WandbLogger:
    from wandb import Settings

    mode = None if _is_online(config) else os.environ.get("WANDB_MODE", "offline")
    # Its capture of the terminal is not for a bar that draws itself, nor for what a signal handler writes.
    settings = Settings(console="off", silent=mode is not None, init_timeout=60, x_disable_stats=True)
    logger = WandbLogger(
        name, run_dir, known or secrets.token_hex(4), project=config.project, entity=config.entity, mode=mode,
        resume=None if mode else "allow", settings=settings,
    )  # fmt: skip
    logger._wandb_init.pop("anonymous", None)  # Lightning 2.6 passes it always, and W&B warns of it
    return logger


def _mlflow(config: LoggerConfig, run_dir: Path, name: str, known: str | None) -> MLFlowLogger:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (run_dir / "mlruns").resolve().as_uri()
    if "://" not in uri or uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # it has stopped to grow, but is all that a run needs
    logging.getLogger("lightning.pytorch.loggers.mlflow").setLevel(
        logging.ERROR
    )  # "Experiment not found. Creating it."
    return MLFlowLogger(config.project, name, uri, run_id=known)


def _has_account() -> bool:
    """Whether a key of W&B is in the environment, or in the file where `wandb login` puts it, under this login."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    paths = [Path(os.environ["NETRC"])] if "NETRC" in os.environ else [Path.home() / ".netrc", Path.home() / "_netrc"]
    for path in paths:
        try:
            entries = netrc.netrc(str(path)).hosts.values()
        except (OSError, netrc.NetrcParseError):
            continue
        if any(login == "user" and key for login, _, key in entries):
            return True
    return False


def _is_online(config: LoggerConfig) -> bool:
    return not config.offline and os.environ.get("WANDB_MODE", "online") in ("online", "run", "shared")


def _check_server(uri: str) -> None:
    """ValueError where nobody listens; MLflow itself would try for minutes."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    try:
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname or "", port), SECONDS_TO_CONNECT).close()
    except OSError as error:
        raise ValueError(f"logger.tracking_uri={uri}: no server answers there ({error}).") from error


def _known_name(config: LoggerConfig, run_dir: Path) -> str | None:
    """Where an earlier session has logged with the same logger: the name to go on under."""
    path = run_dir / LOGGED_AS
    logger, _, name = path.read_text(encoding="utf-8").strip().partition(" ") if path.exists() else ("", "", "")
    return name if logger == config.name and name else None

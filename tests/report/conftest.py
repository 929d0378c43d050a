"""Run directories as training leaves them, made in a moment."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from torch.utils.tensorboard import SummaryWriter

from dreamer.config.compose import parse, register
from dreamer.config.file import CONFIG_FILE, format_config
from dreamer.config.schema import Config
from dreamer.training.saving.returns_file import RETURNS_FILE, append_return

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="session")
def default(composed) -> Config:
    return parse(composed("trainer.max_steps=20000"))


@pytest.fixture
def make_run(tmp_path: Path, default: Config) -> Callable[..., Path]:
    """make_run("name", {"model.optim.lr": 1e-4}, returns=[...]) -> its directory; an episode ends every 1,000 steps,
    10 s each."""

    def make_run(name: str, values: dict[str, Any] | None = None, returns: list[float] | None = None) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        config = copy.deepcopy(default)
        for key, value in (values or {}).items():
            *groups, last = key.split(".")
            setattr(reduce(getattr, groups, config), last, value)
        (path / CONFIG_FILE).write_bytes(format_config(config))
        for index, ret in enumerate([1.0, 2.0, 4.0] if returns is None else returns, start=1):
            append_return(path / RETURNS_FILE, 1000 * index, 10.0 * index, ret, 500)
        return path

    return make_run


@pytest.fixture
def log() -> Callable[..., Path]:
    """log(run, {"loss/dyn": [(env_step, value), ...]}, purge_step=0): one event file more, as a session writes it."""

    def log(run: Path, scalars: dict[str, list[tuple[int, float]]], purge_step: int = 0) -> Path:
        before = set(run.glob("events*"))
        writer = SummaryWriter(str(run), purge_step=purge_step)
        for tag, points in scalars.items():
            for env_step, value in points:
                writer.add_scalar(tag, value, env_step)
        writer.close()
        (path,) = set(run.glob("events*")) - before
        return path

    return log


@pytest.fixture
def with_hydra() -> Iterator[None]:
    """Hydra at work, as inside of a script's main."""
    register()
    with initialize_config_dir(str(CONF), version_base=None):
        yield

"""Options and fixtures for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from dreamer.config.compose import parse, register
from dreamer.config.schema import Config

CONF = Path(__file__).parents[1] / "conf"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden-dir",
        default=str(Path(__file__).parent / "golden"),
        help="directory with the fixtures (*.npz) that tests/golden compares with",
    )


@pytest.fixture(autouse=True)
def one_thread_and_a_seed() -> None:
    """Tests run beside each other's environments: two spinning OpenMP threads would slow both down."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def composed() -> Callable[..., DictConfig]:
    """What Hydra makes of conf/ and these command-line words."""

    def composed(*words: str) -> DictConfig:
        register()
        with initialize_config_dir(str(CONF), version_base=None):
            return compose("config", overrides=["run_dir=runs/test", *words])

    return composed


@pytest.fixture(scope="session")
def tiny(composed: Callable[..., DictConfig]) -> Callable[..., Config]:
    """The checked config of `debug=tiny` with an action repeat of 4, and with the given words:

    tiny("run_dir=...", "env=dummy_counter", ...)."""

    def tiny(*words: str) -> Config:
        return parse(composed("debug=tiny", "trainer.threads=1", "env.action_repeat=4", *words))

    return tiny

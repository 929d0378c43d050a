"""Options and fixtures for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


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

"""A search stops between two trials: Hydra's sweeper calls this for each trial that it has chosen, before it begins."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dreamer.sweep.begun import is_stopped
from dreamer.sweep.job import SWEEP_DIR, SWEEP_START


def check_going(config: DictConfig, trial: Any) -> None:
    """KeyboardInterrupt once the sweep was asked to stop: else every trial that is left would be asked for in vain."""
    if is_stopped(Path(os.environ[SWEEP_DIR]), os.environ[SWEEP_START]):
        raise KeyboardInterrupt

"""A small policy, and everything between counting environments and batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.data.collector import Collector
from dreamer.data.dataset import ReplayDataset
from dreamer.data.replay import Replay
from dreamer.data.schedule import TrainRatio
from dreamer.data.storage import columns_of
from dreamer.envs.suites.dummy import Counter
from dreamer.envs.vector import SerialVector
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import LatentArrays, Space


class RowCounter:
    """A recurrent policy whose memory is exact: deter = (rows since the reset, sum of the action before)."""

    def __init__(self, action_space: Space) -> None:
        self.space = action_space

    def initial(self, num_envs: int) -> LatentArrays:
        return {"deter": np.zeros((num_envs, 2), np.float32), "stoch": np.zeros((num_envs, 1), np.int16)}

    def act(
        self, obs: dict[str, np.ndarray], prev_latent: LatentArrays, prev_action: np.ndarray, is_first: np.ndarray
    ) -> tuple[np.ndarray, LatentArrays]:
        age = np.where(is_first, 0, prev_latent["deter"][:, 0] + 1)
        before = np.where(is_first, 0, prev_action.sum(-1))
        latent = {
            "deter": np.stack([age, before], axis=1).astype(np.float32),
            "stoch": (age[:, None] % 4).astype(np.int16),
        }
        place = age[:, None] + np.arange(self.space.shape[0])
        if self.space.is_discrete:
            return (place % np.array(self.space.classes)).astype(np.int32), latent
        return np.sin(place + before[:, None]).astype(np.float32), latent

    def refresh(self) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state == {}


@pytest.fixture
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process leaves what it wrote to the system, so tests of that need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(np.memmap, "flush", lambda array: None)


@pytest.fixture
def policy_class() -> type[RowCounter]:
    return RowCounter


@dataclass
class Run:
    """One run's data side; `directory` is where its replay files lie."""

    envs: list[EpisodeJournal]
    replay: Replay
    collector: Collector
    dataset: ReplayDataset


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Run]:
    """Builds a run on Counter environments whose episodes end with row 7, 8, ... (one length per environment)."""

    def build_run(
        num_envs: int = 2,
        capacity: int = 400,
        length: int = 6,
        storage: str = "ram",
        directory: str = "replay",
        collect_steps: int = 20,
        batch_size: int = 3,
        train_ratio: float = 5.0,
        early_ratio: float | None = None,
        early_steps: int = 0,
        max_steps: int = 400,
        actions: str = "continuous",
        is_terminal: bool = False,
        overlap: bool = False,
    ) -> Run:
        envs = [
            EpisodeJournal(
                Counter("both", action_repeat=2, size=16, length=7 + index, actions=actions, is_terminal=is_terminal)
            )
            for index in range(num_envs)
        ]
        columns = columns_of(envs[0].obs_space, envs[0].action_space, deter=2, stoch=1)
        replay = Replay(columns, capacity, length, num_envs, storage, tmp_path / directory, seed=1)
        policy = RowCounter(envs[0].action_space)
        collector = Collector(SerialVector(envs), policy, replay, collect_steps, seed=2, overlap=overlap)
        schedule = TrainRatio(train_ratio, batch_size * (length - 1), early_ratio, early_steps)
        return Run(envs, replay, collector, ReplayDataset(collector, replay, batch_size, schedule, max_steps))

    return build_run

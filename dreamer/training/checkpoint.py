"""Checkpoints: Lightning's file with our counters, written whole or not at all, and refused in words where damaged."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
import yaml

from dreamer.agent import Agent
from dreamer.compose import from_dict, to_dict
from dreamer.config import Config
from dreamer.data.dataset import ReplayDataset
from dreamer.envs.trust import EnvWords, check_trusted
from dreamer.identity import differences, digest
from dreamer.training import policy_file
from dreamer.types import Batch, Space

CONFIG_FILE = "config.yaml"
CHECKPOINT_FILE = "checkpoints/last.ckpt"
REPLAY_DIRECTORY = "replay"


class Batches:
    """The dataset as Lightning sees it: without a state, which callbacks.Checkpoints saves and run.prepare restores.

    Lightning restores the state of what it iterates in the middle of an epoch only. Here a run is one epoch, so the
    checkpoint that is written when it ends (max_steps, a signal) would bring back the weights but no replay.
    """

    def __init__(self, dataset: ReplayDataset) -> None:
        self.batches = dataset

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, Any]:
        return {}  # with both methods, Lightning knows that this can be resumed, and does not warn

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert not state_dict, list(state_dict)


def save_checkpoint(trainer: L.Trainer, run_dir: Path) -> Path:
    """Write the run's one checkpoint; a process killed in between leaves the one before."""
    path = run_dir / CHECKPOINT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    if trainer.logger is not None:
        trainer.logger.save()  # what a resume goes on from is logged on disk, also where the process is killed
    trainer.save_checkpoint(part)
    with part.open("rb+") as file:
        os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
    os.replace(part, path)
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint, or an exported policy, as plain values; ValueError where there is none or it is damaged."""
    if not path.is_file():
        raise ValueError(f"checkpoint={path} does not exist.")
    if path.suffix == policy_file.SUFFIX:
        return policy_file.read_policy(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, pickle.UnpicklingError, ValueError) as error:
        raise ValueError(f"checkpoint={path} cannot be read; it is truncated or no checkpoint.") from error
    if not isinstance(state, dict) or "dreamer" not in state:
        raise ValueError(f"checkpoint={path} was not written by this project.")
    policy_file.check_header(state["dreamer"], path)
    return state


def locate(checkpoint: str) -> Path:
    """The file that `checkpoint` names: itself, or the newest one of a run directory."""
    path = Path(checkpoint)
    if path.is_dir():
        file = path / CHECKPOINT_FILE
        if not file.is_file():
            raise ValueError(
                f"checkpoint={checkpoint} holds no {CHECKPOINT_FILE}: no run directory, or none saved yet."
            )
        return file
    if not path.is_file():
        raise ValueError(f"checkpoint={checkpoint} does not exist.")
    return path


def load_config(state: dict[str, Any], typed: EnvWords | None = None) -> Config:
    """The config of a checkpoint. ValueError where its environment would run code that `typed` does not name too."""
    config = from_dict(state["dreamer"]["config"])
    check_trusted(config.env, typed)
    return config


def load_agent(
    state: dict[str, Any], config: Config, obs_space: dict[str, Space], action_space: Space, path: Path
) -> Agent:
    """The agent of a checkpoint, ready to act; ValueError where its weights are of another architecture."""
    try:
        with torch.device("meta"):  # shapes alone: a config that asks for more than the file holds takes no memory
            shapes = Agent(config.model, obs_space, action_space)
    except RuntimeError as error:
        raise ValueError(f"checkpoint={path} asks for networks that no machine holds: {error}.") from error
    _weights_for(shapes, state, path)
    agent = Agent(config.model, obs_space, action_space)
    load_weights(agent, state, path)
    return agent.eval()


def load_weights(agent: Agent, state: dict[str, Any], path: Path) -> None:
    agent.load_state_dict(_weights_for(agent, state, path))


def _weights_for(agent: Agent, state: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint under the agent's names; ValueError where names or shapes are not the agent's."""
    weights = {key.removeprefix("agent."): value for key, value in state["state_dict"].items()}
    ours = agent.state_dict()
    for key in [*ours, *weights]:
        if key not in ours or key not in weights or ours[key].shape != weights[key].shape:
            shapes = [tuple(side[key].shape) if key in side else "absent" for side in (weights, ours)]
            raise ValueError(
                f"checkpoint={path} is of another architecture: {key} is {shapes[0]} there and {shapes[1]} here."
            )
    return weights


def save_config(config: Config, run_dir: Path) -> None:
    """The resolved config beside the run, with its digest."""
    text = yaml.safe_dump(to_dict(config), sort_keys=False)
    (run_dir / CONFIG_FILE).write_text(f"# digest: {digest(config)}\n{text}", encoding="utf-8")


def find_resume(config: Config) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that run_dir goes on from, or None for a new run; ValueError where that would lose or mix runs."""
    run_dir = Path(config.run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir={config.run_dir} is a file; give a directory.")
    parent = next(parent for parent in (run_dir, *run_dir.absolute().parents) if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(
            f"run_dir={config.run_dir} cannot be written: {parent} is not a directory that one may write to."
        )
    saved, path = run_dir / CONFIG_FILE, run_dir / CHECKPOINT_FILE
    if not saved.is_file() and not path.is_file():
        return None
    if config.resume == "never":
        raise ValueError(
            f"run_dir={config.run_dir} holds a run already and resume=never; "
            "choose another run_dir, or resume=auto to go on."
        )
    if not path.is_file():
        print(f"{config.run_dir} holds a run without a checkpoint yet: starting it anew.")
        return None
    try:
        state = read_checkpoint(path)
    except ValueError as error:
        raise ValueError(f"run_dir={config.run_dir} cannot be resumed: {error} Choose another run_dir.") from error
    if changed := differences(state["dreamer"]["config"], to_dict(config)):
        shown = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise ValueError(
            f"run_dir={config.run_dir} was started with other settings ({shown}); "
            "give the same ones, or choose another run_dir."
        )
    return path, state

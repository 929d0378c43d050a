"""Checkpoints: the last two of a run, each written whole or not at all, and which of them a run goes on from."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L

from dreamer import ranks
from dreamer.agent import Agent
from dreamer.config.compose import to_dict
from dreamer.config.digest import differences
from dreamer.config.file import CONFIG_FILE
from dreamer.config.schema import Config
from dreamer.data.dataset import ReplayDataset
from dreamer.data.saving.column_files import sync
from dreamer.saved.agents import CHECKPOINT_FILE, PREVIOUS_FILE, find_checkpoint
from dreamer.saved.checkpoint_file import peek
from dreamer.saved.checks import not_finite
from dreamer.training.display.run_log import DIVERGED
from dreamer.training.module import build_optimizer
from dreamer.training.saving.disk import check_room, write_whole
from dreamer.training.saving.rank_states import num_ranks, of_ranks, remove_other_replays
from dreamer.training.saving.returns_file import RETURNS_FILE
from dreamer.training.saving.sessions import SESSIONS_FILE
from dreamer.types import Batch

SAVED_FILE = ".saved"  # not in checkpoints/, which people delete when the disk is full
WRITTEN_WHOLE = (CONFIG_FILE, SAVED_FILE, RETURNS_FILE, SESSIONS_FILE)  # by disk.write_whole


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


def save_checkpoint(trainer: L.Trainer, run_dir: Path, dataset: ReplayDataset) -> None:
    """Write a checkpoint, and keep the one before; a process killed anywhere in here leaves one to go on from.

    Weights that are not finite are not written, and a checkpoint that the disk has no room for is not begun.
    """
    last, previous = run_dir / CHECKPOINT_FILE, run_dir / PREVIOUS_FILE
    part, is_first = last.with_suffix(".part"), ranks.rank() == 0
    if (name := not_finite(learned_state(trainer))) is not None:
        raise FloatingPointError(
            f"{name} holds values that are not finite at update {trainer.global_step:,}: {DIVERGED}"
        )
    if is_first:
        last.parent.mkdir(parents=True, exist_ok=True)
        if last.exists():
            check_room(last, last.stat().st_size)  # before replay is saved, which takes long
    if trainer.logger is not None:
        trainer.logger.save()  # what a resume goes on from is logged on disk, also where the process is killed
    trainer.save_checkpoint(part)  # by CheckpointFile, on rank 0
    if is_first:
        put_in_place(part, last, previous)
        if not (run_dir / SAVED_FILE).exists():
            line = f"The first checkpoint was written at {time.strftime('%Y-%m-%d %H:%M:%S')}.\n"
            write_whole(run_dir / SAVED_FILE, line.encode())
    oldest = ranks.of_first(oldest_generations(last, previous) if is_first else [])
    dataset.keep(oldest[ranks.rank()])


def put_in_place(part: Path, last: Path, previous: Path) -> None:
    try:
        if last.exists():
            os.replace(last, previous)
        os.replace(part, last)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    sync(last.parent)


def oldest_generations(last: Path, previous: Path) -> list[int]:
    """Of each rank's replay, the oldest save that a checkpoint goes back to.

    Where the checkpoint before is of another number of ranks, it goes back to other replays: those stay until it is
    gone.
    """
    states = [peek(path) for path in (previous, last) if path.exists()]
    counts = [num_ranks(state) for state in states]
    if counts[0] != counts[-1]:
        return generations(states[-1])
    remove_other_replays(last.parents[1], counts[-1])
    return generations(states[0])


def generations(state: dict[str, Any]) -> list[int]:
    return [each["dataset"]["replay"].get("generation", 0) for each in of_ranks(state)]


def learned_state(trainer: L.Trainer) -> dict[str, Any]:
    """Weights and optimizer as they will stand in the checkpoint, of which they are most."""
    return {
        "state_dict": trainer.lightning_module.state_dict(),
        "optimizer_states": [optimizer.state_dict() for optimizer in trainer.optimizers],
    }


def check_optimizer_fits(agent: Agent, state: dict[str, Any], path: Path) -> None:
    """ValueError where the moments of a checkpoint are not those of this agent's parameters."""
    saved = state["optimizer_states"][0]
    groups = build_optimizer(agent, agent.config).param_groups
    if [len(group["params"]) for group in groups] != [len(group["params"]) for group in saved["param_groups"]]:
        raise ValueError(f"checkpoint={path} is of another architecture: its optimizer has other groups of parameters.")
    params = [param for group in groups for param in group["params"]]
    for index, moments in saved["state"].items():
        if not 0 <= index < len(params) or any(moments[key].shape != params[index].shape for key in ("mu", "nu")):
            raise ValueError(
                f"checkpoint={path} is of another architecture: parameter {index} of its optimizer has another shape."
            )


def check_run_dir(config: Config) -> None:
    """ValueError where run_dir is no place to write to."""
    run_dir = Path(config.run_dir)
    if run_dir.exists() and not run_dir.is_dir():
        raise ValueError(f"run_dir={config.run_dir} is a file; give a directory.")
    parent = next(parent for parent in (run_dir, *run_dir.absolute().parents) if parent.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(
            f"run_dir={config.run_dir} cannot be written: {parent} is not a directory that one may write to."
        )


def find_resume(config: Config) -> tuple[Path, dict[str, Any]] | None:
    """The checkpoint that run_dir goes on from, or None for a new run; ValueError where that would lose or mix runs."""
    check_run_dir(config)
    run_dir = Path(config.run_dir)
    if not is_run(run_dir):
        return None
    if config.resume == "never":
        raise ValueError(
            f"run_dir={config.run_dir} holds a run already and resume=never; "
            "choose another run_dir, or resume=auto to go on."
        )
    try:
        found = find_checkpoint(run_dir, f"run_dir={config.run_dir}")
    except ValueError as error:
        raise ValueError(
            f"run_dir={config.run_dir} cannot be resumed: {error} Nothing was erased. Choose another run_dir."
        ) from error
    if found is None:
        check_never_saved(run_dir)
        print(f"{config.run_dir} holds a run without a checkpoint yet: starting it anew.")
        return None
    if changed := differences(found[1]["dreamer"]["config"], to_dict(config)):
        shown = "; ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise ValueError(
            f"run_dir={config.run_dir} was started with other settings ({shown}); "
            "give the same ones, or choose another run_dir."
        )
    return found


def is_run(run_dir: Path) -> bool:
    return any((run_dir / name).is_file() for name in (CONFIG_FILE, SAVED_FILE, CHECKPOINT_FILE, PREVIOUS_FILE))


def check_never_saved(run_dir: Path) -> None:
    """ValueError where a run directory has lost its checkpoints: a run that starts anew would erase the rest of it."""
    mark = run_dir / SAVED_FILE
    if mark.is_file():
        raise ValueError(
            f"run_dir={run_dir} has lost its checkpoints: neither {CHECKPOINT_FILE} nor {PREVIOUS_FILE} is there, but "
            f"{mark} says: {mark.read_text(encoding='utf-8', errors='replace').strip()} Nothing was erased. Put one "
            "back, or choose another run_dir."
        )


def tidy(run_dir: Path, resume: Path | None) -> None:
    """Once this process holds a run directory: remove what a killed one left half written, set aside what is damaged.

    A damaged last.ckpt must not take the place of the sound one before it when the next checkpoint is written.
    """
    last = run_dir / CHECKPOINT_FILE
    for path in (last.with_suffix(".part"), *(run_dir / f"{name}.part" for name in WRITTEN_WHOLE)):
        path.unlink(missing_ok=True)
    if resume is not None and resume != last and last.exists():
        aside = last.with_name(f"{last.name}.damaged")
        os.replace(last, aside)
        print(f"{last} is kept as {aside.name}.", flush=True)


def describe_saved(run_dir: Path) -> str:
    """What is safe when a run ends in an error."""
    for name in (CHECKPOINT_FILE, PREVIOUS_FILE):
        if (run_dir / name).is_file():
            env_steps = peek(run_dir / name)["dreamer"]["env_steps"]
            return f"the checkpoint of environment step {env_steps:,} stays ({run_dir / name})"
    return "there is no checkpoint yet"

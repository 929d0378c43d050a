"""What a checkpoint holds of each rank, and how a run goes on with another number of them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from dreamer import ranks
from dreamer.data.dataset import ReplayDataset
from dreamer.data.saving.dealing import deal
from dreamer.saved.checkpoint_file import OTHER_RANKS


def replay_directory(run_dir: Path, rank: int, size: int) -> Path:
    """Where a rank of `size` keeps its rows; other numbers of ranks have others, so that both can be gone back to."""
    return run_dir / ("replay" if size == 1 else f"replay_{rank}_of_{size}")


def remove_other_replays(run_dir: Path, size: int) -> None:
    """Of an earlier number of ranks, once no checkpoint goes back to them."""
    kept = {replay_directory(run_dir, rank, size).name for rank in range(size)}
    for path in run_dir.glob("replay*"):
        if path.is_dir() and path.name not in kept and re.fullmatch(r"replay(_\d+_of_\d+)?", path.name):
            shutil.rmtree(path, ignore_errors=True)


def of_ranks(state: dict[str, Any]) -> list[dict[str, Any]]:
    """`dataset` and `random` of each rank."""
    return [state["dreamer"], *state["dreamer"].get(OTHER_RANKS, [])]


def num_ranks(state: dict[str, Any]) -> int:
    return len(of_ranks(state))


def random_of_rank(state: dict[str, Any]) -> dict[str, Any] | None:
    """State of torch's generators in this rank; None for one that is new, which keeps its own."""
    states = of_ranks(state)
    return states[ranks.rank()]["random"] if ranks.rank() < len(states) else None


def restore_dataset(dataset: ReplayDataset, state: dict[str, Any], path: Path) -> None:
    """Replay, collector and this rank's counters as of a checkpoint; ValueError where they are not of this version's
    kind. Of another number of ranks the old files are read, and brought to this checkpoint's save: each in its turn."""
    states = [each["dataset"] for each in of_ranks(state)]
    try:
        if len(states) == ranks.world_size():
            dataset.load_state_dict(states[ranks.rank()])
        else:
            places = [replay_directory(path.parents[1], rank, len(states)) for rank in range(len(states))]
            deal(dataset, states, places)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"checkpoint={path} is no whole one: what it says of replay and environments does not fit "
            f"({type(error).__name__}: {error}). Another version of this project may have written it."
        ) from error

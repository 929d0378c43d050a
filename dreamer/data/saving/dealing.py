"""Environments, their rows and what they are at, of a run of some ranks, shared out among another number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dreamer import ranks
from dreamer.data.dataset import ReplayDataset, to_arrays
from dreamer.data.replay import Replay

OF_ENVS = ("action", "needs_reset", "num_resets", "ret", "length", "envs")
"""Entries of Stepper.state_dict with a value for each environment; so have the parts of `latent`."""


def deal(dataset: ReplayDataset, states: Sequence[dict[str, Any]], directories: Sequence[Path]) -> None:
    """Give this rank its environments out of all, with their rows and unfinished episodes.

    states: ReplayDataset.state_dict of each rank before; directories: of their replays. Rows are copied, and fresh
    sequences that were still to be drawn first count as any other. Each rank in turn calls this.
    """
    before = [to_arrays(state) for state in states]
    replay, collector = dataset.replay, dataset.collector
    first = ranks.rank() * collector.num_envs
    size = len(before[0]["collector"]["stepper"]["needs_reset"])  # environments of a rank before
    places = [divmod(first + index, size) for index in range(collector.num_envs)]
    opened = {rank: opened_replay(replay, before[rank]["replay"], directories[rank]) for rank, _ in places}
    for index, (rank, stream) in enumerate(places):
        replay.copy_stream(index, opened[rank], stream)
        for columns in before[rank]["collector"]["waiting"]:
            replay.add(index, {key: column[stream] for key, column in columns.items()})
    replay.forget_fresh()
    shared = before[0]
    dataset.load_state_dict(
        {
            "updates_due": max(shared["updates_due"], 0),
            "schedule": shared["schedule"],
            "collector": {
                "stepper": dealt_stepper(collector.state_dict()["stepper"], before, places),
                "waiting": [],
                "episodes": shared["collector"]["episodes"] if ranks.rank() == 0 else [],
            },
        }
    )


def opened_replay(like: Replay, state: dict[str, Any], directory: Path) -> Replay:
    """The replay of a rank before, as of its save."""
    layout = state["layout"]
    replay = Replay(
        like.columns, layout["rows"] * layout["num_streams"], layout["length"], layout["num_streams"], "disk",
        directory, seed=0,
    )  # fmt: skip
    replay.load_state_dict(state)
    return replay


def dealt_stepper(
    fresh: dict[str, Any], before: Sequence[dict[str, Any]], places: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Stepper.state_dict of this rank: of its environments, its share of the counters, and the generators of the rank
    before that had its number, if there was one (else those of `fresh`)."""
    steppers = [state["collector"]["stepper"] for state in before]
    mine = steppers[ranks.rank()] if ranks.rank() < len(steppers) else fresh
    counters = {
        name: share(sum(stepper[name] for stepper in steppers)) for name in ("policy_steps", "env_steps", "num_faults")
    }
    of_envs = {name: [steppers[rank][name][stream] for rank, stream in places] for name in OF_ENVS}
    return {
        **counters,
        **of_envs,
        "action": np.stack(of_envs["action"]),
        "latent": {
            part: np.stack([steppers[rank]["latent"][part][stream] for rank, stream in places])
            for part in steppers[0]["latent"]
        },
        "random": mine["random"],
        "policy": {**mine["policy"], "policy_steps": steppers[0]["policy"]["policy_steps"]},
    }


def share(total: int) -> int:
    """What of a count belongs to this rank, so that those of all ranks add up to it."""
    return total // ranks.world_size() + (total % ranks.world_size() if ranks.rank() == 0 else 0)

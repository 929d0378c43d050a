"""The batches of a run: collect as the train ratio asks, then sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.data import IterableDataset

from dreamer import ranks
from dreamer.data.collector import Collector
from dreamer.data.replay import Replay
from dreamer.data.schedule import TrainRatio
from dreamer.data.storage import OBS_PREFIX
from dreamer.types import Batch


class ReplayDataset(IterableDataset):
    """Iterating it is the run: policy steps and batches in turn, until `max_steps` environment steps or `stop()`.

    Lock step: policy steps are taken and stored until updates are due, then come their batches, and so on. Overlap: the
    same policy steps, with the same weights, are taken while the first of these updates runs. So its batch is drawn
    before their rows are stored; nothing else differs.

    A batch is sampled only when it is asked for, so the latents of the update before can be written back first.
    Batches begin once `collect_steps` policy steps are taken and replay holds `batch_size` items; from then on as many
    as `schedule` asks for. The authors begin at batch_size * batch_length items, which a small replay or a small
    `collect_steps` would never reach. With several ranks `batch_size` is what is drawn here, of a larger batch.
    """

    def __init__(
        self, collector: Collector, replay: Replay, batch_size: int, schedule: TrainRatio, max_steps: int
    ) -> None:
        self.collector, self.replay = collector, replay
        self.batch_size, self.max_steps = batch_size, max_steps
        self.schedule = schedule
        self.after_step: Callable[[], None] = lambda: None  # called when policy steps were counted, to log and show
        self._updates_due = 0  # -1: a batch was drawn before the policy steps that ask for it were counted
        self._is_stopped = False  # here; all ranks end once they have agreed
        self._is_ending = False
        self.is_filled = False  # whether the replay of each rank held a batch when they last agreed

    def __iter__(self) -> Iterator[Batch]:
        self._is_stopped = self._is_ending = False  # here, not at the first batch: a signal may come between the two
        return self._batches()

    def __len__(self) -> int:
        """An upper bound on the updates of the whole run, reached where every episode lasts a single step.

        Lightning asks for it: an iterable without a length is fetched one batch ahead, which would collect with an
        older policy, sample before latents are written back, and lose a batch on resume.
        """
        actions = self.collector.total_envs * math.ceil(self.max_steps / self.collector.env_steps_per_action)
        rows = 2 * (actions + self.collector.total_envs)  # every action may need a reset, which is a row of its own
        return math.ceil(self.schedule.most_updates(rows))

    def stop(self) -> None:
        """End the iteration before the next policy step or batch; what is still due is kept in the state.

        Policy steps that were started beside an update are finished and counted all the same. With several ranks all of
        them end, once they come to agree on it.
        """
        self._is_stopped = True
        self.collector.stop()

    @property
    def is_stopped(self) -> bool:
        return self._is_stopped

    def finish_steps(self) -> None:
        """Wait for the policy steps that were started beside an update; counters and replay include them afterwards.

        Rows of steps whose update is not drawn yet go on waiting for that.
        """
        if not self.collector.is_acting:
            return
        try:
            self.collector.finish()
        finally:
            if self._updates_due < 0:
                self.collector.store()
            self._count()

    def write_back(
        self, row_ids: Int[Tensor, "B 2"], deter: Float[Tensor, "B T D"], stoch: Int[Tensor, "B T S"]
    ) -> None:
        """Store the refreshed latents of a batch's trained rows; stoch as class indices."""
        latents = deter.detach().float().cpu().numpy(), stoch.detach().cpu().numpy()
        self.replay.write_back(row_ids.cpu().numpy(), *latents)

    def state_dict(self) -> dict[str, Any]:
        """Everything but the rows, which are saved to their files here, since the state points into them."""
        self.finish_steps()
        self.replay.save()
        state = {
            "updates_due": self._updates_due,
            "schedule": self.schedule.state_dict(),
            "collector": self.collector.state_dict(),
            "replay": self.replay.state_dict(),
        }
        return _to_tensors(state)

    def keep(self, generation: int) -> None:
        """Forget what only states whose replay is of a save before `generation` would need."""
        self.replay.keep(generation)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = to_arrays(state)
        self._updates_due = state["updates_due"]
        self.schedule.load_state_dict(state["schedule"])
        if "replay" in state:  # else its rows are there already (saving/dealing.py)
            self.replay.load_state_dict(state["replay"])
        self.collector.load_state_dict(state["collector"])

    def _batches(self) -> Iterator[Batch]:
        self.finish_steps()  # of an iteration that was left
        while True:
            # A replay that lost rows with its files is filled again first: what is due waits.
            self._agree()
            while self._updates_due > 0 and self.is_filled and not self._is_ending:
                yield self._draw()
                self._agree()
            if self._is_ending or self.collector.env_steps >= self.max_steps:
                return
            steps = self._steps_beside()
            if not steps:
                self.collector.step(self.max_steps)
                self._count()
                continue
            # Where a fault cut the steps before, the batch that they ask for was drawn already.
            is_due = self._updates_due == 0 and self._are_certain(steps)
            self.collector.start(steps, self.max_steps)
            if is_due:
                yield self._draw()
            self.finish_steps()

    def _agree(self) -> None:
        """Whether the run ends here, and whether a batch may be drawn: what all ranks must know alike."""
        stopped, lacking = ranks.totals(self._is_stopped, self.replay.num_items < self.batch_size)
        self._is_ending, self.is_filled = stopped > 0, lacking == 0

    def _steps_beside(self) -> int:
        """Policy steps until the next update, if they may run beside it; 0 where one comes in lock step.

        Before the first update there is nothing to run beside. No more rows than a batch has wait outside of replay:
        with a train ratio below 1 the first of many steps come in lock step.
        """
        collector = self.collector
        if not (collector.overlap and self.schedule.has_begun and self.is_filled):
            return 0
        steps = self.schedule.steps_until_due(collector.policy_steps, collector.total_envs)
        return steps if steps * collector.num_envs <= self.batch_size * self.replay.length else 0

    def _are_certain(self, steps: int) -> bool:
        """Whether the last of so many policy steps will be taken for sure: `max_steps` may come first."""
        most = (steps - 1) * self.collector.total_envs * self.collector.env_steps_per_action
        return self.collector.env_steps + most < self.max_steps

    def _count(self) -> None:
        """What follows from policy steps that were just counted."""
        self.after_step()
        self._agree()
        if self.collector.policy_steps >= self.collector.collect_steps and self.is_filled:
            self._updates_due += self.schedule(self.collector.policy_steps)

    def _draw(self) -> Batch:
        """The batch of an update that is due. Rows that waited for it are stored after it."""
        self._updates_due -= 1
        batch = self._sample()
        self.collector.store()
        return batch

    def _sample(self) -> Batch:
        rows, row_ids = self.replay.sample(self.batch_size)
        columns = {key: torch.from_numpy(array) for key, array in rows.items()}
        trained = {key: column[:, 1:] for key, column in columns.items()}  # row 0 is context
        return Batch(
            obs={key.removeprefix(OBS_PREFIX): trained[key] for key in trained if key.startswith(OBS_PREFIX)},
            prev_action=columns["action"][:, :-1],
            reward=trained["reward"],
            is_first=trained["is_first"],
            is_last=trained["is_last"],
            is_terminal=trained["is_terminal"],
            context_deter=columns["deter"][:, 0],
            context_stoch=columns["stoch"][:, 0].long(),
            row_ids=torch.from_numpy(row_ids),
        )


def _to_tensors(state: Any) -> Any:
    """Arrays as tensors and numpy numbers as plain ones, so that torch.load(weights_only=True) reads the state."""
    if isinstance(state, dict):
        return {key: _to_tensors(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_to_tensors(value) for value in state]
    if isinstance(state, np.generic):
        return state.item()
    return torch.from_numpy(state.copy()) if isinstance(state, np.ndarray) else state


def to_arrays(state: Any) -> Any:
    """The reverse of `_to_tensors`."""
    if isinstance(state, dict):
        return {key: to_arrays(value) for key, value in state.items()}
    if isinstance(state, list):
        return [to_arrays(value) for value in state]
    return state.numpy().copy() if isinstance(state, Tensor) else state

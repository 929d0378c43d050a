"""Collection: has the environments stepped, here or in a thread beside, counts, and stores the rows in replay."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch

from dreamer import ranks
from dreamer.data.replay import Replay
from dreamer.data.stepper import Episode, Restart, Rows, Stepper, Waiting
from dreamer.envs.vector import Vector
from dreamer.errors import RunStopped
from dreamer.types import Policy

T = TypeVar("T")
THREAD_NAME = "environments"


class Collector:
    """Takes policy steps and stores their rows; environment i fills stream i of replay.

    `start`, `finish` and `store` are the parts of a policy step: acting, counting, storing. With `overlap` acting
    happens in a thread of its own, to which the environments belong from their first reset to their end (an OpenGL
    context belongs to the thread that made it). That thread touches neither replay nor the counters here, and draws no
    number from a generator of anybody else; so what a run computes does not depend on how fast it is.

    With several ranks each has its own environments. The counters are of all ranks together, and `start` and `finish`
    are called by all.
    """

    def __init__(
        self,
        envs: Vector,
        policy: Policy,
        replay: Replay,
        collect_steps: int,
        seed: int,
        overlap: bool = False,
        cuts_faults: bool = False,
    ) -> None:
        assert envs.num_envs == replay.num_streams, (envs.num_envs, replay.num_streams)
        self.policy, self.replay, self.collect_steps, self.overlap = policy, replay, collect_steps, overlap
        self.num_envs, self.env_steps_per_action = envs.num_envs, envs.env_steps_per_action
        self.total_envs = envs.num_envs * ranks.world_size()
        self.policy_steps, self.env_steps, self.num_faults = 0, 0, 0
        share = -(-collect_steps // ranks.world_size())
        self._stepper = Stepper(envs, policy, share, seed, cuts_faults)
        self._waiting: list[dict[str, np.ndarray]] = []  # columns of policy steps that are counted, but not stored
        self._counted = (0, 0, 0)  # policy steps, environment steps and faults of this rank
        self._ended: list[Episode] = []  # in the steps that are being counted
        self._episodes: list[Episode] = []
        self._acting: Future[RunStopped | None] | None = None
        self._taken: list[Rows] = []  # of the policy steps that were started; the thread that acts puts them here
        self._is_finishing, self._is_abandoned = False, False
        self._is_closing = threading.Event()
        self._thread = ThreadPoolExecutor(1, THREAD_NAME, initializer=_use_one_thread) if overlap else None
        torch.get_num_threads()  # settles the number of this thread, before the other sets its own

    @property
    def is_acting(self) -> bool:
        """Whether `finish` is still to come."""
        return self._acting is not None

    def start(self, steps: int, max_steps: int) -> None:
        """Take `steps` policy steps with the policy as it is now, fewer where `max_steps` environment steps come first.

        With overlap this returns at once. The counters, and all else here, change with `finish`.
        """
        assert self._acting is None, "the steps before are not finished"
        self.policy.refresh()
        self._taken = []
        share = -(-(max_steps - self.env_steps) // ranks.world_size())
        self._acting = self._submit(lambda: self._act(steps, self._stepper.env_steps + share))

    def finish(self) -> None:
        """Wait for the steps that were started, and count them.

        Raises what an environment or the policy raised. With RunStopped, of whichever rank, the steps before it are
        counted all the same.
        """
        if self._acting is None:
            return
        acting, self._acting = self._acting, None
        self._is_finishing = True
        try:
            stopped = acting.result()
        finally:
            self._is_finishing = False
        self._count_taken()
        self._count_everywhere(stopped)

    @property
    def waiting(self) -> Waiting | None:
        """What the run waits for and cannot go on without, where nothing bounds how long that takes; else None."""
        if self._stepper.envs.answers_in_time or (self.overlap and not self._is_finishing):
            return None
        return self._stepper.waiting

    def abandon(self) -> None:
        """Give up the policy step that is being taken, as another thread than the one that waits for it.

        `waiting.take_over()` comes before, `state_dict` may follow, and nothing else.
        """
        self._is_abandoned, self._acting = True, None
        self._stepper.undo()
        self._count_taken()
        self._count_everywhere(None)

    def stop(self) -> None:
        """The run is being stopped: steps that were started are finished, without patience for slow environments."""
        self._stepper.envs.stop()

    def store(self) -> None:
        """Put the rows that are counted into replay, in the order in which they came."""
        for columns in self._waiting:
            for index in range(self.num_envs):
                self.replay.add(index, {key: column[index] for key, column in columns.items()})
        self._waiting = []

    def step(self, max_steps: int) -> None:
        """One policy step, from acting to storing."""
        self.start(1, max_steps)
        self.finish()
        self.store()

    def drain_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def close(self) -> None:
        """End the thread, after the policy step it is at, and free the environments. Nothing may follow."""
        if self._is_closing.is_set():
            return
        self._is_closing.set()
        try:
            self._submit(self._stepper.close).result()
        finally:
            if self._thread is not None:
                self._thread.shutdown()

    def state_dict(self) -> dict[str, Any]:
        """Everything between two steps; `finish` comes before."""
        assert self._acting is None, "the state of a step that is being taken cannot be told"
        return {
            "stepper": self._submit(self._stepper.state_dict).result(),
            "waiting": [{key: column.copy() for key, column in columns.items()} for columns in self._waiting],
            "episodes": [tuple(episode) for episode in self._episodes],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`; the replay must have been restored before, and with several ranks `add_up` follows."""
        broken = self._submit(lambda: self._stepper.load_state_dict(state["stepper"])).result()
        self._counted = state["stepper"]["policy_steps"], state["stepper"]["env_steps"], self._stepper.num_faults
        self.policy_steps, self.env_steps, self.num_faults = self._counted
        self._waiting = [dict(columns) for columns in state["waiting"]]
        self._episodes = [Episode(*episode) for episode in state["episodes"]]
        for index in broken:
            self._end_episode(index)
            number = self._stepper.first + index
            print(f"Environment {number} did not replay its unfinished episode identically: it ends here, truncated.")

    def _count_taken(self) -> None:
        taken, self._taken = self._taken, []
        for rows in taken:
            for restart in rows.restarts:
                self._tell(restart)
            self._counted = rows.policy_steps, rows.env_steps, rows.num_faults
            self._ended += rows.episodes
            self._waiting.append(rows.columns)

    def _count_everywhere(self, stopped: RunStopped | None) -> None:
        """Add up what every rank has counted; RunStopped, everywhere, where an environment of one of them ends the run.

        The episodes of all ranks go to rank 0. With several ranks they ended somewhere in the steps that were counted.
        """
        num_ended, num_stopped = self.add_up(len(self._ended), stopped is not None)
        ended, self._ended = self._ended, []
        if num_ended and not ranks.is_alone():
            everyones = [episode for episodes in ranks.everyones(ended) for episode in episodes]
            ended = [episode._replace(env_step=self.env_steps) for episode in everyones] if ranks.rank() == 0 else []
        self._episodes += ended
        if num_stopped and not ranks.is_alone():
            stopped = RunStopped(next(words for words in ranks.everyones(stopped and str(stopped)) if words))
        if stopped is not None:
            raise stopped

    def add_up(self, *others: int) -> list[int]:
        """Make the counters those of all ranks together; returns the sums of `others`."""
        self.policy_steps, self.env_steps, self.num_faults, *sums = ranks.totals(*self._counted, *others)
        return sums

    def _tell(self, restart: Restart) -> None:
        """Of an episode that was cut. What it leaves in replay ends before the row that comes next."""
        if restart.is_cut:
            self._end_episode(restart.index)
        ending = "its episode ends here, truncated." if restart.is_cut else "it was between two episodes."
        print(f"{restart.line}: {ending}", flush=True, file=sys.stdout if ranks.rank() == 0 else sys.stderr)

    def _end_episode(self, index: int) -> None:
        """Mark the newest row of an environment as the last of its episode."""
        if self._waiting:
            self._waiting[-1]["is_last"][index] = True
        else:
            self.replay.end_episode(index)

    def _act(self, steps: int, max_steps: int) -> RunStopped | None:
        """The part of a policy step that may run beside an update; returns what stopped it before so many steps."""
        while len(self._taken) < steps and self._stepper.env_steps < max_steps and not self._is_closing.is_set():
            try:
                self._taken.append(self._stepper.step())
            except RunStopped as stopped:
                return stopped
        return None

    def _submit(self, task: Callable[[], T]) -> Future[T]:
        """`task` in the thread of the environments, or done here and now where there is none."""
        if self._thread is not None and not self._is_abandoned:
            return self._thread.submit(task)
        done: Future[T] = Future()
        done.set_result(task())
        return done


def _use_one_thread() -> None:
    """torch's operators in this thread take no second core: it would be one that the update computes on.

    The number holds for the calling thread, but at its first parallel operator a thread takes over what was set last
    anywhere in the process. Asking for the number brings that about, so what is set afterwards stays.
    """
    torch.get_num_threads()
    torch.set_num_threads(1)

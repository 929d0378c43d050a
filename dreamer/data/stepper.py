"""Every environment of a run and the policy that acts in them, one policy step at a time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from dreamer import ranks
from dreamer.data.storage import OBS_PREFIX
from dreamer.envs.seeding import episode_seed
from dreamer.envs.soundness import UnsoundRow
from dreamer.envs.vector import Death, Failure, Move, Vector
from dreamer.errors import RunStopped
from dreamer.types import Policy, TimeStep


class Episode(NamedTuple):
    """A finished episode: the run's env_step when it ended, the sum of its rewards, its policy steps without reset."""

    env_step: int
    ret: float
    length: int


class Restart(NamedTuple):
    """Of an environment whose process died or whose row was unsound: its newest row begins an episode.

    line: what happened, in words; is_cut: whether an episode was running; the row before is its last then.
    """

    index: int
    line: str
    is_cut: bool


class Rows(NamedTuple):
    """One policy step: a row of every environment, and how far the run is with it.

    columns: key -> [N ...], an entry for every column of replay; episodes: those that ended with these rows;
    restarts: of environments, between the rows before and these; num_faults: of the run so far.
    """

    columns: dict[str, np.ndarray]
    policy_steps: int
    env_steps: int
    episodes: list[Episode]
    restarts: list[Restart]
    num_faults: int


MOST_UNSOUND = 3
"""In a row: an environment may give so many unsound rows, one after each reset, before the run ends all the same."""


class Waiting:
    """Whether somebody waits for an environment, and for how long; another thread may ask, and may take over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since: float | None = None

    def __enter__(self) -> None:
        self._since = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:  # where somebody has taken over, whoever waited stays here
            self._since = None

    @property
    def seconds(self) -> float:
        """How long it has taken by now; 0 where nobody waits."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def take_over(self) -> bool:
        """Hold whoever waits for good, should the environment ever answer. False, and nothing done, where it has."""
        self._lock.acquire()
        if self._since is not None:
            return True
        self._lock.release()
        return False


class Stepper:
    """Advances every environment by one policy step at a time, all in lock step. It knows no replay.

    A row is an observation (of a reset or a step), the reward and flags that came with it, and what the policy made of
    it: the action chosen after it and its latent. After a row with is_last no action follows, so zeros are stored.
    The first `collect_steps` policy steps act uniformly at random; the policy still runs, for its latents, and is told
    the action that was really taken.

    policy_steps counts rows over all environments, those of resets included, as the authors do for the train ratio.
    env_steps counts simulator control steps, so a row of a reset adds nothing; the authors count it.

    A step is taken whole or not at all: RunStopped, where an environment cannot go on or gives an unsound row, leaves
    `state_dict` as it was before, but that an environment which died in the same step, or whose episode was cut, begins
    anew. With `cuts_faults` an unsound row ends its episode instead.
    """

    def __init__(self, envs: Vector, policy: Policy, collect_steps: int, seed: int, cuts_faults: bool = False) -> None:
        self.envs, self.policy, num_envs = envs, policy, envs.num_envs
        self.first = ranks.rank() * num_envs  # number of the first of these among those of all ranks
        self.cuts_faults, self.num_faults = cuts_faults, 0  # of processes that died, and rows that were unsound
        self.waiting = Waiting()
        self._rows: dict[int, TimeStep] = {}  # of the step that is being taken
        self.collect_steps, self.seed = collect_steps, seed
        self.policy_steps, self.env_steps = 0, 0
        self._action_space = envs.action_space
        self._random = np.random.default_rng(ranks.seed_of(seed))
        self._latent = policy.initial(num_envs)
        self._action = np.zeros((num_envs, *self._action_space.shape), self._action_space.dtype)
        self._needs_reset = [True] * num_envs
        self._num_resets = [0] * num_envs
        self._ret, self._length = [0.0] * num_envs, [0] * num_envs
        self._episodes: list[Episode] = []
        self._restarts: list[Restart] = []

    def step(self) -> Rows:
        """One row for every environment."""
        steps = self._advance()
        obs = {key: np.stack([step.obs[key] for step in steps]) for key in steps[0].obs}
        is_first = np.array([step.is_first for step in steps])
        is_last = np.array([step.is_last for step in steps])
        action, latent = self.policy.act(obs, self._latent, self._action, is_first)
        if self.policy_steps < self.collect_steps:
            action = self._random_action()
        action = np.where(is_last.reshape(-1, *[1] * (action.ndim - 1)), 0, action).astype(self._action_space.dtype)
        self._latent, self._action = latent, action
        self.policy_steps += len(steps)
        columns = {
            **{OBS_PREFIX + key: value for key, value in obs.items()},
            "action": action,
            "reward": np.array([step.reward for step in steps], np.float32),
            "is_first": is_first,
            "is_last": is_last,
            "is_terminal": np.array([step.is_terminal for step in steps]),
            **latent,
        }
        episodes, self._episodes = self._episodes, []
        restarts, self._restarts = self._restarts, []
        return Rows(columns, self.policy_steps, self.env_steps, episodes, restarts, self.num_faults)

    def close(self) -> None:
        self.envs.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy_steps": self.policy_steps,
            "env_steps": self.env_steps,
            "random": self._random.bit_generator.state,
            "policy": self.policy.state_dict(),
            "latent": {key: value.copy() for key, value in self._latent.items()},
            "action": self._action.copy(),
            "needs_reset": list(self._needs_reset),
            "num_resets": list(self._num_resets),
            "ret": list(self._ret),
            "length": list(self._length),
            "num_faults": self.num_faults,
            "envs": self.envs.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> list[int]:
        """Continue from `state`, unfinished episodes included.

        Returns the environments that could not replay theirs identically: these begin a new one.
        """
        self.policy_steps, self.env_steps = state["policy_steps"], state["env_steps"]
        self._random.bit_generator.state = state["random"]
        self.policy.load_state_dict(state["policy"])
        self._latent, self._action = dict(state["latent"]), state["action"]
        self._needs_reset, self._num_resets = list(state["needs_reset"]), list(state["num_resets"])
        self._ret, self._length = list(state["ret"]), list(state["length"])
        self.num_faults = state.get("num_faults", 0)  # not in checkpoints from before 30 November 2026
        broken = [index for index, is_exact in enumerate(self.envs.load_state_dict(state["envs"])) if not is_exact]
        for index in broken:
            self._needs_reset[index] = True
        return broken

    def undo(self) -> None:
        """Give up the step that is being taken, so that `state_dict` tells what was before it."""
        self.envs.undo(list(self._rows))
        self._rows = {}

    def _advance(self) -> list[TimeStep]:
        """A row of every environment, counted once all of them are sound; of an episode anew where one was cut."""
        num_unsound = [0] * self.envs.num_envs
        while missing := [index for index in range(self.envs.num_envs) if index not in self._rows]:
            moves = {index: self._move(index) for index in missing}
            with self.waiting:
                answers = self.envs.step(moves)
            self._rows.update({index: answer for index, answer in answers.items() if isinstance(answer, TimeStep)})
            for index, answer in answers.items():
                num_unsound[index] += isinstance(answer, UnsoundRow)
                if not isinstance(answer, TimeStep):
                    self._begin_anew(index, answer, is_over=num_unsound[index] > MOST_UNSOUND)
        rows, self._rows = self._rows, {}
        for index in sorted(rows):
            self._count(index, rows[index])
        return [rows[index] for index in range(self.envs.num_envs)]

    def _begin_anew(self, index: int, answer: Death | UnsoundRow | Failure, is_over: bool) -> None:
        """Have an environment that gave no row begin another episode; RunStopped where that cannot or shall not be."""
        number = self.first + index
        if isinstance(answer, Failure):
            self.undo()
            raise RunStopped(f"Environment {number} cannot go on. {answer.report}")
        if isinstance(answer, Death):
            line = f"Environment {number} died ({answer.reason}) and was started again"
        else:
            episode = self._num_resets[index] - (not self._needs_reset[index])
            line = f"Environment {number}, episode {episode}, row {answer.row}: {answer.key} {answer.found}"
            if is_over or not self.cuts_faults:
                self.undo()
                way = (
                    "this came from several episodes at once" if is_over else "env.on_fault=truncate ends such episodes"
                )
                raise RunStopped(f"{line}. Nothing can be learned from that; {way}.")
        self.num_faults += 1
        is_cut = not self._needs_reset[index]
        if not is_cut:
            self._num_resets[index] += 1  # of the episode that could not begin
        self._restarts.append(Restart(index, line, is_cut))
        self._needs_reset[index] = True

    def _move(self, index: int) -> Move:
        if not self._needs_reset[index]:
            return self._action[index]
        return episode_seed(self.seed, self.first + index, self._num_resets[index])

    def _count(self, index: int, row: TimeStep) -> None:
        if self._needs_reset[index]:
            self._num_resets[index] += 1
            self._ret[index], self._length[index] = 0.0, 0
        else:
            self._length[index] += 1
            self.env_steps += self.envs.env_steps_per_action
        self._ret[index] += float(row.reward)
        self._needs_reset[index] = bool(row.is_last)
        if row.is_last:
            self._episodes.append(Episode(self.env_steps, self._ret[index], self._length[index]))

    def _random_action(self) -> np.ndarray:
        space, num_envs = self._action_space, self.envs.num_envs
        if space.is_discrete:
            return self._random.integers(space.classes, size=(num_envs, *space.shape)).astype(np.int32)
        return self._random.uniform(-1, 1, size=(num_envs, *space.shape)).astype(np.float32)

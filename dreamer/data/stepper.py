"""Every environment of a run and the policy that acts in them, one policy step at a time."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dreamer.data.storage import OBS_PREFIX
from dreamer.envs.seeding import episode_seed
from dreamer.envs.vector import Death, Move, Vector
from dreamer.types import Policy, TimeStep


class Episode(NamedTuple):
    """A finished episode: the run's env_step when it ended, the sum of its rewards, its policy steps without reset."""

    env_step: int
    ret: float
    length: int


class Restart(NamedTuple):
    """Of an environment whose process died: its newest row begins an episode.

    is_cut: whether an episode was running; the row before is its last then.
    """

    index: int
    reason: str
    is_cut: bool


class Rows(NamedTuple):
    """One policy step: a row of every environment, and how far the run is with it.

    columns: key -> [N ...], an entry for every column of replay; episodes: those that ended with these rows;
    restarts: of environments, between the rows before and these.
    """

    columns: dict[str, np.ndarray]
    policy_steps: int
    env_steps: int
    episodes: list[Episode]
    restarts: list[Restart]


class Stepper:
    """Advances every environment by one policy step at a time, all in lock step. It knows no replay.

    A row is an observation (of a reset or a step), the reward and flags that came with it, and what the policy made of
    it: the action chosen after it and its latent. After a row with is_last no action follows, so zeros are stored.
    The first `collect_steps` policy steps act uniformly at random; the policy still runs, for its latents, and is told
    the action that was really taken.

    policy_steps counts rows over all environments, those of resets included, as the authors do for the train ratio.
    env_steps counts simulator control steps, so a row of a reset adds nothing; the authors count it.
    """

    def __init__(self, envs: Vector, policy: Policy, collect_steps: int, seed: int) -> None:
        self.envs, self.policy, num_envs = envs, policy, envs.num_envs
        self.collect_steps, self.seed = collect_steps, seed
        self.policy_steps, self.env_steps = 0, 0
        self._action_space = envs.action_space
        self._random = np.random.default_rng(seed)
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
        return Rows(columns, self.policy_steps, self.env_steps, episodes, restarts)

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
        broken = [index for index, is_exact in enumerate(self.envs.load_state_dict(state["envs"])) if not is_exact]
        for index in broken:
            self._needs_reset[index] = True
        return broken

    def _advance(self) -> list[TimeStep]:
        """A row of every environment; where a process died, the first one of another episode."""
        rows: dict[int, TimeStep] = {}
        while missing := [index for index in range(self.envs.num_envs) if index not in rows]:
            for index, row in self.envs.step({index: self._move(index) for index in missing}).items():
                if isinstance(row, Death):
                    self._restarts.append(Restart(index, row.reason, is_cut=not self._needs_reset[index]))
                    self._needs_reset[index] = True
                else:
                    self._count(index, row)
                    rows[index] = row
        return [rows[index] for index in range(self.envs.num_envs)]

    def _move(self, index: int) -> Move:
        if not self._needs_reset[index]:
            return self._action[index]
        self._num_resets[index] += 1
        return episode_seed(self.seed, index, self._num_resets[index] - 1)

    def _count(self, index: int, row: TimeStep) -> None:
        if self._needs_reset[index]:
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

"""Steps environments with a policy and stores what happens in replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dreamer.data.replay import Replay
from dreamer.data.storage import OBS_PREFIX
from dreamer.envs.seeding import episode_seed
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.types import Policy, TimeStep


class Episode(NamedTuple):
    """A finished episode: the run's env_step when it ended, the sum of its rewards, its policy steps without reset."""

    env_step: int
    ret: float
    length: int


class Collector:
    """Advances every environment by one policy step at a time, all in lock step; environment i fills stream i.

    A row is an observation (of a reset or a step), the reward and flags that came with it, and what the policy made of
    it: the action chosen after it and its latent. After a row with is_last no action follows, so zeros are stored.
    The first `collect_steps` policy steps act uniformly at random; the policy still runs, for its latents, and is told
    the action that was really taken.

    policy_steps counts rows over all environments, those of resets included, as the authors do for the train ratio.
    env_steps counts simulator control steps, so a row of a reset adds nothing; the authors count it.
    """

    def __init__(
        self, envs: Sequence[EpisodeJournal], policy: Policy, replay: Replay, collect_steps: int, seed: int
    ) -> None:
        assert len(envs) == replay.num_streams, (len(envs), replay.num_streams)
        self.envs, self.policy, self.replay = list(envs), policy, replay
        self.collect_steps, self.seed = collect_steps, seed
        self.policy_steps, self.env_steps = 0, 0
        self._action_space = envs[0].action_space
        self._random = np.random.default_rng(seed)
        self._latent = policy.initial(len(envs))
        self._action = np.zeros((len(envs), *self._action_space.shape), self._action_space.dtype)
        self._needs_reset = [True] * len(envs)
        self._num_resets = [0] * len(envs)
        self._ret, self._length = [0.0] * len(envs), [0] * len(envs)
        self._episodes: list[Episode] = []

    def step(self) -> None:
        """One row for every environment."""
        rows = [self._advance(index) for index in range(len(self.envs))]
        obs = {key: np.stack([row.obs[key] for row in rows]) for key in rows[0].obs}
        is_first = np.array([row.is_first for row in rows])
        is_last = np.array([row.is_last for row in rows])
        action, latent = self.policy.act(obs, self._latent, self._action, is_first)
        if self.policy_steps < self.collect_steps:
            action = self._random_action()
        action = np.where(is_last.reshape(-1, *[1] * (action.ndim - 1)), 0, action).astype(self._action_space.dtype)
        for index, row in enumerate(rows):
            self.replay.add(index, {
                **{OBS_PREFIX + key: value for key, value in row.obs.items()},
                "action": action[index],
                "reward": row.reward,
                "is_first": row.is_first,
                "is_last": row.is_last,
                "is_terminal": row.is_terminal,
                "deter": latent["deter"][index],
                "stoch": latent["stoch"][index],
            })  # fmt: skip
        self._latent, self._action = latent, action
        self.policy_steps += len(rows)

    def drain_episodes(self) -> list[Episode]:
        """The episodes that ended since the last call."""
        episodes, self._episodes = self._episodes, []
        return episodes

    def state_dict(self) -> dict[str, Any]:
        return {
            "policy_steps": self.policy_steps,
            "env_steps": self.env_steps,
            "random": self._random.bit_generator.state,
            "latent": {key: value.copy() for key, value in self._latent.items()},
            "action": self._action.copy(),
            "needs_reset": list(self._needs_reset),
            "num_resets": list(self._num_resets),
            "ret": list(self._ret),
            "length": list(self._length),
            "episodes": [tuple(episode) for episode in self._episodes],
            "envs": [env.state_dict() for env in self.envs],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, unfinished episodes included; the replay must have been restored before."""
        self.policy_steps, self.env_steps = state["policy_steps"], state["env_steps"]
        self._random.bit_generator.state = state["random"]
        self._latent, self._action = dict(state["latent"]), state["action"]
        self._needs_reset, self._num_resets = list(state["needs_reset"]), list(state["num_resets"])
        self._ret, self._length = list(state["ret"]), list(state["length"])
        self._episodes = [Episode(*episode) for episode in state["episodes"]]
        for index, (env, saved) in enumerate(zip(self.envs, state["envs"], strict=True)):
            if not env.load_state_dict(saved).is_exact:
                self.replay.end_episode(index)
                self._needs_reset[index] = True
                print(
                    f"Environment {index} did not replay its unfinished episode identically: it ends here, truncated."
                )

    def _advance(self, index: int) -> TimeStep:
        env = self.envs[index]
        if self._needs_reset[index]:
            row = env.reset(episode_seed(self.seed, index, self._num_resets[index]))
            self._num_resets[index] += 1
            self._ret[index], self._length[index] = 0.0, 0
        else:
            row = env.step(self._action[index])
            self._length[index] += 1
            self.env_steps += env.env_steps_per_action
        self._ret[index] += float(row.reward)
        self._needs_reset[index] = bool(row.is_last)
        if row.is_last:
            self._episodes.append(Episode(self.env_steps, self._ret[index], self._length[index]))
        return row

    def _random_action(self) -> np.ndarray:
        space, num_envs = self._action_space, len(self.envs)
        if space.is_discrete:
            return self._random.integers(space.classes, size=(num_envs, *space.shape)).astype(np.int32)
        return self._random.uniform(-1, 1, size=(num_envs, *space.shape)).astype(np.float32)

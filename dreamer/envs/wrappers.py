"""Layers around an environment."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dreamer.envs.spec import Env, Replayable
from dreamer.types import TimeStep


class Resumed(NamedTuple):
    """Where a journal stands after `load_state_dict`.

    row: the last row of the unfinished episode; None if no episode is running, so that `reset` comes next
    is_exact: False if the episode could not be replayed identically (another simulator version or machine): then
        row is None, and the caller should end the episode that it had stored so far, as truncated.
    """

    row: TimeStep | None
    is_exact: bool


class EpisodeJournal:
    """Remembers seed and actions of the running episode, which is enough to stand at the same point again.

    A simulator's state cannot be saved in general, but a deterministic one can be brought back: reset with the same
    seed, then the same actions. Replaying draws no pictures where the environment is Replayable.
    """

    def __init__(self, env: Env) -> None:
        self.env = env
        self.obs_space = env.obs_space
        self.action_space = env.action_space
        self.env_steps_per_action = env.env_steps_per_action
        self._forget()

    def _forget(self) -> None:
        self._seed: int | None = None  # None: no episode is running
        self._actions: list[np.ndarray] = []
        self._return = 0.0

    def reset(self, seed: int) -> TimeStep:
        self._forget()
        row = self.env.reset(seed)
        self._seed = seed
        return row

    def step(self, action: np.ndarray) -> TimeStep:
        return self._write(action, self.env.step(action))

    def frame(self) -> np.ndarray | None:
        return self.env.frame()

    def close(self) -> None:
        self.env.close()

    def state_dict(self) -> dict[str, Any]:
        """The unfinished episode: seed (or None), actions [L A], its return so far, and the simulator's numbers."""
        shape, dtype = self.action_space.shape, self.action_space.dtype
        return {
            "seed": self._seed,
            "actions": np.stack(self._actions) if self._actions else np.zeros((0, *shape), dtype),
            "return": self._return,
            "simulator": self._simulator_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> Resumed:
        """Replay the saved episode up to where it stood."""
        self._forget()
        if state["seed"] is None:
            return Resumed(None, is_exact=True)
        row = self.reset(int(state["seed"]))
        actions = np.asarray(state["actions"])
        for index, action in enumerate(actions):
            if row.is_last:
                break
            row = self.step(action) if index == len(actions) - 1 else self._advance(action)
        is_exact = (
            not row.is_last
            and self._return == state["return"]
            and np.array_equal(self._simulator_state(), state["simulator"])
        )
        if not is_exact:
            self._forget()
        return Resumed(row if is_exact else None, is_exact)

    def _advance(self, action: np.ndarray) -> TimeStep:
        env = self.env
        return self._write(action, env.advance(action) if isinstance(env, Replayable) else env.step(action))

    def _write(self, action: np.ndarray, row: TimeStep) -> TimeStep:
        if row.is_last:
            self._forget()
        else:
            self._actions.append(np.array(action, self.action_space.dtype))
            self._return += row.reward
        return row

    def _simulator_state(self) -> np.ndarray:
        env = self.env
        return env.simulator_state() if isinstance(env, Replayable) and self._seed is not None else np.zeros(0)

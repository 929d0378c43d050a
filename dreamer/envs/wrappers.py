"""Layers around an environment."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from dreamer.envs.soundness import UnsoundRow, check_row
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
    seed, then the same actions. Replaying draws no pictures where the environment is Replayable. Every row is checked
    before it is handed on: an UnsoundRow is raised instead, and leaves the journal as it was before that row.
    """

    def __init__(self, env: Env) -> None:
        self.env = env
        self.obs_space = env.obs_space
        self.action_space = env.action_space
        self.env_steps_per_action = env.env_steps_per_action
        self._is_ahead = False  # whether the simulation stands beyond what is written here
        self._forget()
        self._before = (self._seed, self._actions, 0, self._return)  # what was written before the last move

    def _forget(self) -> None:
        self._seed: int | None = None  # None: no episode is running
        self._actions: list[np.ndarray] = []
        self._return = 0.0

    def reset(self, seed: int) -> TimeStep:
        self._begin_move()
        self._forget()
        row = self.env.reset(seed)
        check_row(row, self.obs_space, 0)
        self._seed = seed
        self._is_ahead = False
        return row

    def step(self, action: np.ndarray) -> TimeStep:
        self._begin_move()
        return self._write(action, self.env.step(action), has_obs=True)

    def undo(self) -> None:
        """Take the last move back, whose row nobody used: `state_dict` is what it was before."""
        self._seed, actions, length, self._return = self._before
        self._actions = actions[:length]
        self._is_ahead = True

    def _begin_move(self) -> None:
        self._before = (self._seed, self._actions, len(self._actions), self._return)
        self._is_ahead = True

    def frame(self) -> np.ndarray | None:
        return self.env.frame()

    def close(self) -> None:
        self.env.close()

    def state_dict(self) -> dict[str, Any]:
        """The unfinished episode: seed (or None), actions [L A], its return so far, and the simulator's numbers.

        These are None where the simulation is beyond that point, in a move that has not ended or was taken back.
        """
        shape, dtype = self.action_space.shape, self.action_space.dtype
        return {
            "seed": self._seed,
            "actions": np.stack(self._actions) if self._actions else np.zeros((0, *shape), dtype),
            "return": self._return,
            "simulator": None if self._is_ahead else self._simulator_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> Resumed:
        """Replay the saved episode up to where it stood."""
        self._forget()
        self._is_ahead = False
        if state["seed"] is None:
            return Resumed(None, is_exact=True)
        row = self._replay(int(state["seed"]), np.asarray(state["actions"]))
        is_exact = (
            row is not None
            and not row.is_last
            and self._return == state["return"]
            and (state["simulator"] is None or np.array_equal(self._simulator_state(), state["simulator"]))
        )
        if not is_exact:
            self._forget()
        return Resumed(row if is_exact else None, is_exact)

    def _replay(self, seed: int, actions: np.ndarray) -> TimeStep | None:
        """The last row of these actions, or the one with which the episode ends before; None if one is unsound."""
        try:
            row = self.reset(seed)
            for index, action in enumerate(actions):
                if row.is_last:
                    break
                row = self.step(action) if index == len(actions) - 1 else self._advance(action)
        except UnsoundRow:
            return None
        return row

    def _advance(self, action: np.ndarray) -> TimeStep:
        if not isinstance(self.env, Replayable):
            return self.step(action)
        self._begin_move()
        return self._write(action, self.env.advance(action), has_obs=False)

    def _write(self, action: np.ndarray, row: TimeStep, has_obs: bool) -> TimeStep:
        check_row(row, self.obs_space, len(self._actions) + 1, has_obs)
        self._is_ahead = False
        if row.is_last:
            self._forget()
        else:
            self._actions.append(np.array(action, self.action_space.dtype))
            self._return += row.reward
        return row

    def _simulator_state(self) -> np.ndarray:
        env = self.env
        return env.simulator_state() if isinstance(env, Replayable) and self._seed is not None else np.zeros(0)

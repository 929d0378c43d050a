"""Resets and steps of an environment that may raise, return anything, or write where it must not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from dreamer.envs.checker.findings import Findings, Stop
from dreamer.envs.checker.rows import check_frame, check_reward, check_row
from dreamer.envs.seeding import episode_seed
from dreamer.envs.spec import Env, Replayable
from dreamer.types import TimeStep


class Driver:
    """Resets and steps an environment, and checks every row. Episodes are counted as they begin."""

    def __init__(self, env: Env, seed: int, findings: Findings) -> None:
        self.env, self.seed, self.findings = env, seed, findings
        self.seconds: list[float] = []  # of every reset, step and advance, inside the environment
        self.obs: dict[str, np.ndarray] = {}  # of the current row, what is as promised
        self.is_reward_sound = True  # of the current row
        self.random = np.random.default_rng(seed)
        self._episode, self._step = -1, 0
        self._kept: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name -> array, and what it held when it came

    def reset(self, episode: int) -> TimeStep:
        """Begin the episode with the seed of that number, one of those of training."""
        self._episode, self._step = self._episode + 1, 0
        seed = episode_seed(self.seed, 0, episode)
        why = "It is called as reset(seed). Seeds have 63 bits; NumPy's old generators take seed % 2**32."
        return self._row("reset raises", why, self.env.reset, seed)

    def step(self, action: np.ndarray, failing: str = "step raises", why: str = "") -> TimeStep:
        """Take a step; `failing` and `why` tell what it means if that raises."""
        self._step += 1
        given = action.copy()
        row = self._row(failing, why or "The lines below are the environment's own.", self.env.step, given)
        if not np.array_equal(given, action):
            self.findings.warning(
                "action changed", "step changes the action that it is given.", "Replay stores it: copy it first."
            )
        return row

    def advance(self, action: np.ndarray) -> TimeStep:
        assert isinstance(self.env, Replayable)
        self._step += 1
        why = "It must do what `step` does, and leave the observation empty."
        return self._timed("advance raises", why, self.env.advance, action.copy())

    def frame(self) -> np.ndarray | None:
        with self.findings.catching("frame raises", "It returns a picture, or None where there is none."):
            frame = self.env.frame()
        if frame is None or not check_frame(frame, self.findings):
            return None
        return frame.copy()

    def close(self) -> None:
        with self.findings.catching("close raises", "It frees what the environment holds, whatever state that is in."):
            self.env.close()

    def random_action(self) -> np.ndarray:
        space = self.env.action_space
        if space.is_discrete:
            return self.random.integers(space.classes).astype(np.int32)
        return self.random.uniform(-1, 1, space.shape).astype(np.float32)

    def _row(self, failing: str, why: str, call: Callable[[Any], Any], argument: Any) -> TimeStep:
        is_reset = self._step == 0
        row = self._timed(failing, why, call, argument)
        self._check_kept()
        if not isinstance(row, TimeStep):
            self._tell_no_row(row, is_reset)
        self.obs = check_row(row, self.env.obs_space, is_reset, self.findings)
        self.is_reward_sound = check_reward(row.reward, is_reset, self.findings)
        self._kept = {key: (value, value.copy()) for key, value in self.obs.items()}
        return row

    def _tell_no_row(self, row: Any, is_reset: bool) -> NoReturn:
        self.findings.error(
            "row",
            f"{'reset' if is_reset else 'step'} returns a {type(row).__name__}, not a TimeStep.",
            "It must return TimeStep(obs, reward, is_first, is_last, is_terminal) of dreamer/types.py.",
        )
        raise Stop

    def _timed(self, failing: str, why: str, call: Callable[[Any], Any], argument: Any) -> Any:
        self.findings.place = f"episode {self._episode}, {f'step {self._step}' if self._step else 'reset'}"
        start = time.perf_counter()
        with self.findings.catching(failing, why):
            row = call(argument)
        self.seconds.append(time.perf_counter() - start)
        return row

    def _check_kept(self) -> None:
        """Whether this call wrote into arrays that the one before has returned."""
        for key, (array, held) in self._kept.items():
            if not np.array_equal(array, held):
                self.findings.warning(
                    f"{key} reused",
                    f"observation {key} is one array that the next step overwrites.",
                    "Training copies each row at once; whoever keeps rows finds all of them equal. Return a copy.",
                )

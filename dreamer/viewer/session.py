"""What one viewer watches and does: an episode, the dreams that part from it, and the commands of the page."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dreamer.envs.seeding import ACTING_STREAM, EVALUATION_STREAM, episode_seed
from dreamer.envs.spec import Env
from dreamer.viewer.model import Model
from dreamer.viewer.pictures import Stage
from dreamer.viewer.tracks import DreamTrack, Lens, RealTrack

SAMPLES = 6  # dreams behind the one that Watch shows, for the spread of its lines
COUNTS = (1, 4, 6, 9)  # dreams of a branch
DREAMING_STREAM = ACTING_STREAM + 1  # of seeds
MOST_ROWS = 3000  # of an episode that are kept, and of all dreams of a branch together
SLOWEST, FASTEST = 1.0, 60.0  # rows in a second
WORST_COMMAND = "a command that the page does not give"


class Session:
    """State of one viewer; `handle` takes its commands, `tick` goes on by a row while it plays.

    mode: "watch" shows the episode beside a dream of the same actions; "branch" several dreams of the policy from row
    `at` on; "steer" one dream, with the actions of the viewer or of the policy.
    at: the row of the episode that is shown, or from which branch and steer part; step: the row of their dream.
    every: rows of the episode after which Watch shows the model a frame again; 0: never.
    """

    def __init__(self, model: Model, env: Env, stage: Stage | None, seed: int, rows_per_second: float = 20.0) -> None:
        self.model, self.lens = model, Lens(model.obs_space, stage)
        self._env, self._seed = env, seed
        self.rate = min(max(rows_per_second, SLOWEST), FASTEST)
        self.every = 50
        self.num_episodes = self._num_dreams = 0
        self._commands: dict[str, Callable[[dict[str, Any]], None]] = {
            "play": self._play, "pause": self._pause, "step": self._step, "seek": self._seek, "new": self._new,
            "rate": self._rate, "every": self._every, "dream": self._dream_again, "watch": self._watch,
            "branch": self._branch, "steer": self._steer, "act": self._act, "hand": self._hand,
        }  # fmt: skip
        self._begin()

    def handle(self, command: dict[str, Any]) -> None:
        """Carry out what the page asks: {"do": name, ...}. ValueError for what it never asks."""
        name = command.get("do")
        if not isinstance(name, str) or name not in self._commands:
            raise ValueError(WORST_COMMAND)
        self._commands[name](command)

    def tick(self) -> None:
        """Go on by a row; what cannot go on stops playing."""
        if self.mode == "watch":
            self.is_playing = self._go_on() and self.is_playing
        else:
            self.is_playing = self._dream_on() and self.is_playing

    @property
    def is_full(self) -> bool:
        """Whether as many rows are kept as may be."""
        if self.mode == "watch":
            return len(self.real) >= MOST_ROWS
        return len(self.shown_dream) * self.shown_dream.dream.count >= MOST_ROWS

    @property
    def shown_dream(self) -> DreamTrack:
        """The dream of the mode: of Watch, the last that began at or before the row that is shown."""
        return self._free if self._free is not None else self.dream_at(self.at)

    @property
    def dream_step(self) -> int:
        """The row of this dream that is shown."""
        return self.step if self._free is not None else self.at - self.shown_dream.start

    def dream_at(self, t: int) -> DreamTrack:
        """The dream that Watch shows beside row t."""
        return next(track for track in reversed(self._followers) if track.start <= t)

    # What moves time

    def _go_on(self) -> bool:
        """A row further in the episode, with the dream of its actions beside it."""
        if self.at + 1 == len(self.real):
            if self.real.episode.is_over or self.is_full:
                return False
            self.real.advance()
        self.at += 1
        if self.every and self.at - self.shown_dream.start > self.every:
            self._follow_from(self.at)
        track, rows = self.shown_dream, self.real.episode.rows
        while len(track) <= self.at - track.start:
            t = track.start + len(track)
            track.advance(rows[t - 1].action, rows[t].seen.embed)
        return True

    def _dream_on(self) -> bool:
        """A step further in the dream of Branch or Steer; from an earlier step, whoever steers dreams anew."""
        track = self.shown_dream
        if self.mode == "steer":
            track.cut(self.step + 1)
        if self.step + 1 == len(track):
            if self.is_full:
                return False
            track.advance(self.action if self.mode == "steer" and self.is_steered else None)
        self.step += 1
        return True

    def _begin(self) -> None:
        env_seed = episode_seed(self._seed, EVALUATION_STREAM, self.num_episodes)
        seed = episode_seed(self._seed, ACTING_STREAM, self.num_episodes)
        self.num_episodes += 1
        self.real = RealTrack(self.model, self._env, self.lens, env_seed, seed)
        self.mode, self.is_playing, self.is_steered = "watch", True, True
        self.at = self.step = 0
        self._free: DreamTrack | None = None
        self._followers: list[DreamTrack] = []
        self._let_go()
        self._follow_from(0)

    def _follow_from(self, start: int) -> None:
        """From this row on Watch has a new dream; those that began later are forgotten."""
        earlier = [track for track in self._followers if track.start < start]
        if earlier and start - earlier[-1].start < len(earlier[-1]):
            earlier[-1].cut(start - earlier[-1].start)
        self._followers = [*earlier, self._new_dream(start, SAMPLES, 1)]

    def _new_dream(self, start: int, count: int, pictures: int) -> DreamTrack:
        self._num_dreams += 1
        seed = episode_seed(self._seed, DREAMING_STREAM, self._num_dreams)
        return DreamTrack(self.model, self.lens, self.real, start, count, pictures, seed)

    def _let_go(self) -> None:
        """The viewer's action is the one that does least: zeros, or first choices."""
        space = self.model.action_space
        self.action = np.zeros(space.shape, space.dtype)

    # Commands

    def _play(self, _: dict[str, Any]) -> None:
        self.is_playing = True

    def _pause(self, _: dict[str, Any]) -> None:
        self.is_playing = False

    def _step(self, command: dict[str, Any]) -> None:
        self.is_playing = False
        if _whole(command, "by", -1, 1) > 0:
            self.tick()
        else:
            self._seek({"to": max(0, (self.at if self.mode == "watch" else self.step) - 1)})

    def _seek(self, command: dict[str, Any]) -> None:
        self.is_playing = False
        to = _whole(command, "to", 0, MOST_ROWS)
        if self.mode == "watch":
            self.at = min(to, len(self.real) - 1)
        else:
            self.step = min(to, len(self.shown_dream) - 1)

    def _new(self, _: dict[str, Any]) -> None:
        self._begin()

    def _rate(self, command: dict[str, Any]) -> None:
        self.rate = _number(command.get("to"), SLOWEST, FASTEST)

    def _every(self, command: dict[str, Any]) -> None:
        self.every = _whole(command, "to", 0, MOST_ROWS)

    def _dream_again(self, _: dict[str, Any]) -> None:
        """Show the model this frame and let it dream from here."""
        if self.mode == "watch":
            self._follow_from(self.at)

    def _watch(self, _: dict[str, Any]) -> None:
        self.mode, self._free, self.is_playing = "watch", None, False

    def _branch(self, command: dict[str, Any]) -> None:
        count = _whole(command, "count", min(COUNTS), max(COUNTS))
        self._part("branch", self._new_dream(self.at, count, count))

    def _steer(self, _: dict[str, Any]) -> None:
        self._let_go()
        self.is_steered = True
        self._part("steer", self._new_dream(self.at, 1, 1))

    def _part(self, mode: str, dream: DreamTrack) -> None:
        self.mode, self._free, self.step, self.is_playing = mode, dream, 0, True

    def _act(self, command: dict[str, Any]) -> None:
        """An entry for each of the action: numbers in [-1, 1], or choices."""
        space, given = self.model.action_space, command.get("action")
        if not isinstance(given, list) or len(given) != len(self.action):
            raise ValueError(WORST_COMMAND)
        if space.is_discrete:
            chosen = [_whole({"": entry}, "", 0, n - 1) for entry, n in zip(given, space.classes, strict=True)]
        else:
            chosen = [_number(entry, -1.0, 1.0) for entry in given]
        self.action = np.array(chosen, space.dtype)

    def _hand(self, command: dict[str, Any]) -> None:
        """Who acts in Steer: the viewer or the policy."""
        to = command.get("to")
        if to not in ("viewer", "policy"):
            raise ValueError(WORST_COMMAND)
        self._let_go()
        self.is_steered = to == "viewer"


def _whole(command: dict[str, Any], key: str, low: int, high: int) -> int:
    value = command.get(key)
    if type(value) is not int or not low <= value <= high:
        raise ValueError(WORST_COMMAND)
    return value


def _number(value: Any, low: float, high: float) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(WORST_COMMAND)
    return float(value)

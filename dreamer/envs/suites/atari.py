"""Games of the Atari 2600, through the Arcade Learning Environment."""

from __future__ import annotations

from typing import Any

import numpy as np

from dreamer.config.bounds import suggestion
from dreamer.config.schema import EnvConfig
from dreamer.envs.drawing.images import resize
from dreamer.envs.spec import ActionChoices
from dreamer.envs.suites.imports import check_arguments, import_package
from dreamer.types import Space, TimeStep

POOLED = 2  # last frames of an action, of which a picture shows the brighter pixels: some objects are drawn in turn


def make(config: EnvConfig) -> Atari:
    assert config.game is not None
    return Atari(config.game, config.action_repeat, config.pixels, **config.kwargs)


def check_config(config: EnvConfig) -> None:
    """ValueError where ale_py is not installed or has no such game."""
    import_package("ale_py", "atari")
    from ale_py import roms

    games = roms.get_all_rom_ids()
    if config.game not in games:
        raise ValueError(f"env.game={config.game} is not a game of ale_py; {suggestion(str(config.game), games)}")
    check_arguments("env=atari", Atari, config.kwargs, given=("game", "action_repeat", "size"))


class Atari:
    """A game, seen as `image` uint8 [size size 3], or [size size 1] if `gray`.

    sticky: probability, in each frame, that the console goes on with the action of the frame before
    all_actions: the 18 of the console instead of those that the game uses
    noops: an episode begins after so many frames without action, less a random share
    length: frames, after which an episode is cut off: is_last, but not is_terminal, which is the end of the game
    An action stands for `action_repeat` frames. The seed decides the frames at the start and the sticky actions.
    """

    def __init__(
        self,
        game: str,
        action_repeat: int = 4,
        size: int = 64,
        sticky: float = 0.0,
        all_actions: bool = False,
        gray: bool = False,
        noops: int = 30,
        length: int = 108_000,
    ) -> None:
        from ale_py import ALEInterface, LoggerMode, roms

        ALEInterface.setLoggerMode(LoggerMode.Error)
        self._ale: Any = ALEInterface()
        self._ale.setFloat("repeat_action_probability", 0.0)  # `_frame` draws it, from the seed of the episode
        self._ale.setInt("random_seed", 0)
        self._ale.loadROM(roms.get_rom_path(game))
        self._actions = self._ale.getLegalActionSet() if all_actions else self._ale.getMinimalActionSet()
        self._size, self._sticky, self._gray = size, sticky, gray
        self._noops, self._length = noops, length
        self.obs_space = {"image": Space((size, size, 1 if gray else 3), "uint8")}
        self.action_space = Space((1,), "int32", (len(self._actions),))
        self.action_units = ActionChoices(np.zeros(1, np.int64), tuple(action.name for action in self._actions))
        self.env_steps_per_action = action_repeat
        self._num_frames: int | None = None  # of the running episode; None where `reset` must come next

    def reset(self, seed: int) -> TimeStep:
        self._random = np.random.default_rng(seed)
        self._ale.reset_game()
        self._num_frames, self._last_action = 0, self._actions[0]
        for _ in range(self._random.integers(self._noops + 1)):
            self._ale.act(self._actions[0])
            if self._ale.game_over():
                self._ale.reset_game()
        self._screens = [self._screen()]
        return TimeStep(self._observation(), 0.0, is_first=True, is_last=False, is_terminal=False)

    def step(self, action: np.ndarray) -> TimeStep:
        row = self._play(action, is_drawn=True)
        return row._replace(obs=self._observation())

    def advance(self, action: np.ndarray) -> TimeStep:
        """Like `step`, but the observation is left empty: no picture is drawn."""
        return self._play(action, is_drawn=False)

    def translate(self, action: np.ndarray) -> np.ndarray:
        """Choices are counted as the game's own are."""
        return action

    def simulator_state(self) -> np.ndarray:
        """The console's memory, uint8 [128]."""
        return np.array(self._ale.getRAM())

    def frame(self) -> np.ndarray:
        """The console's screen now, uint8 [210 160 3]."""
        return self._ale.getScreenRGB()

    def close(self) -> None:
        pass

    def _play(self, action: np.ndarray, is_drawn: bool) -> TimeStep:
        assert self._num_frames is not None, "reset comes first, and again after is_last"
        chosen, reward = self._actions[int(action[0])], 0.0
        is_terminal = is_last = False
        self._screens = []
        for repeat in range(self.env_steps_per_action):
            reward += self._act(chosen)
            self._num_frames += 1
            is_terminal = bool(self._ale.game_over())
            is_last = is_terminal or self._num_frames >= self._length
            if is_drawn and (is_last or repeat >= self.env_steps_per_action - POOLED):
                self._screens.append(self._screen())
            if is_last:
                self._num_frames = None
                break
        return TimeStep({}, reward, is_first=False, is_last=is_last, is_terminal=is_terminal)

    def _act(self, action: Any) -> float:
        if self._sticky == 0 or self._random.random() >= self._sticky:
            self._last_action = action
        return float(self._ale.act(self._last_action))

    def _screen(self) -> np.ndarray:
        screen = self._ale.getScreenGrayscale() if self._gray else self._ale.getScreenRGB()
        return screen.reshape(*screen.shape[:2], -1)

    def _observation(self) -> dict[str, np.ndarray]:
        return {"image": resize(np.max(self._screens, axis=0), self._size, self._size)}

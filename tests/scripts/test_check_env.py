"""scripts/check_env.py: what it prints and draws, its exit status, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
ROBOT = """
import gymnasium
import numpy as np

class Robot(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (32, 32, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, power=1.0):
        self.power = power

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.integers(256, size=(32, 32, 3), dtype=np.uint8), {}

    def step(self, action):
        self.steps += 1
        picture = self.np_random.integers(256, size=(32, 32, 3), dtype=np.uint8)
        return picture, self.power / self.power, self.steps == 5, False, {}

class Pair(Robot):
    observation_space = gymnasium.spaces.Dict({side: Robot.observation_space for side in ("left", "right")})

    def reset(self, seed=None, options=None):
        picture, info = super().reset(seed=seed)
        return {"left": picture, "right": picture // 2}, info

    def step(self, action):
        picture, *rest = super().step(action)
        return ({"left": picture, "right": picture // 2}, *rest)

class Dazzled(Robot):
    def step(self, action):
        picture, *rest = super().step(action)
        return (picture / 255, *rest)
"""


@pytest.fixture
def check_env_py(tmp_path):
    """Runs `python scripts/check_env.py <words>` in a directory that holds my_env.py."""
    (tmp_path / "my_env.py").write_text(ROBOT)

    def check_env_py(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "check_env.py"), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)

    return check_env_py


def test_a_sound_environment_is_described_and_drawn(check_env_py, tmp_path):
    result = check_env_py("env=custom", "env.class=my_env.Robot", "steps=2e1", "out=sheet.png")
    assert result.returncode == 0, result.stderr
    lines = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line)
    assert lines["obs.image"] == "uint8 [32 32 3]; seen 0 to 255 of 0 to 255"
    assert lines["action"] == "int32 [1], one of 3"
    assert lines["reward"] == "1 to 1, mean 1; not 0 in 100.0% of 20 steps"
    assert lines["episodes"] == "4 ended, after 5 policy steps: 4 truly, 0 at a time limit"
    # 32 * 32 * 3 of pixels, 4 each of action and reward, 3 flags, deter 512 * 4, stoch 32 * 2, 8 of the row's number
    assert lines["replay"] == "5,211 bytes a step, 1.30 GB in all with replay.capacity=250000 and model=laptop"
    assert result.stdout.splitlines()[-1] == "0 errors, 0 warnings, 0 notes: fine."
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 * 130


@pytest.mark.slow
def test_several_pictures_stand_side_by_side(check_env_py, tmp_path):
    result = check_env_py("env=custom", "env.class=my_env.Pair", "steps=20", "out=sheet.png")
    assert result.returncode == 0, result.stderr
    assert "sheet.png: left, right side by side" in result.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 4 * 258
        left, right = (sheet.getpixel((x, 0)) for x in (0, 128))
        assert right == tuple(value // 2 for value in left) != (0, 0, 0)


def test_what_is_wrong_is_told_and_fails(check_env_py, tmp_path):
    result = check_env_py("env=custom", "env.class=my_env.Dazzled", "steps=20")
    assert result.returncode == 1, result.stderr
    assert "error    the observation is float64, but its space promises uint8 (episode 0, step 1, and " in result.stdout
    assert "Give (255 * picture).astype(np.uint8)." in result.stdout
    assert result.stdout.splitlines()[-1] == "1 error, 0 warnings, 0 notes: mend the errors first."
    result = check_env_py("env=custom", "env.class=my_env.Robot", "env.kwargs.power=0", "out=null")
    assert result.returncode == 1 and "step raises: ZeroDivisionError: " in result.stdout
    assert "self.power / self.power" in result.stdout and not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["env=custom"], "env.class has no value"),
        (
            ["env=custom", "env.class=my_env.Robott"],
            "env.class=my_env.Robott: my_env has no Robott; did you mean Robot?",
        ),
        (["env=dummy_counter", "steps=0"], "steps=0 must be a whole number, at least 1."),
        (["env=dummy_counter", "step=3"], "unknown key 'step'; nearest: steps"),
        (["env=dummy_countr"], "unknown env 'dummy_countr'; nearest: dummy_counter"),
        (["env=dummy_counter", "out=sheet.jpg"], "out=sheet.jpg must end in .png."),
        (["env=dummy_counter", "out=nowhere/a.png"], "out=nowhere/a.png: the directory nowhere does not exist."),
    ],
)
def test_bad_input_ends_in_one_line(check_env_py, words, expected):
    result = check_env_py(*words)
    assert result.returncode == 2, result.stdout
    assert result.stderr.startswith(f"error: {expected}") and len(result.stderr.splitlines()) <= 2, result.stderr

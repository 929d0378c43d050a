"""scripts/evaluate.py and export.py: what they print and write, that one seed gives one result, what they refuse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dreamer.config.digest import digest
from dreamer.training.run import prepare

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A directory with a short run of its own name, `run`, on an environment whose return depends on the actions."""
    path = tmp_path_factory.mktemp("evaluate")
    config = tiny(f"run_dir={path / 'run'}", "env=dummy_recall", "trainer.max_steps=480", "trainer.eval_every=0")
    prepare(config).fit()
    return path, config


@pytest.fixture
def evaluate_py(trained):
    """Runs `python scripts/evaluate.py <words>`, or another script, beside the run."""

    def evaluate_py(*words: str, script: str = "evaluate.py") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / script), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=trained[0], env=environment, capture_output=True, text=True, timeout=240)

    return evaluate_py


@pytest.mark.slow
def test_directory_and_file_give_the_same_result_and_the_promised_keys(trained, evaluate_py):
    path, config = trained
    file = "run/checkpoints/last.ckpt"
    by_directory = evaluate_py("checkpoint=run", "episodes=12", "seed=3", "json=one.json", "video=one.gif")
    assert by_directory.returncode == 0, by_directory.stderr
    assert evaluate_py(f"checkpoint={file}", "episodes=12", "seed=3", "json=other.json").returncode == 0
    one, other = (json.loads((path / name).read_text()) for name in ("one.json", "other.json"))
    assert {**one, "checkpoint": file} == other, "recording a video changes nothing, and neither does the second run"
    assert {"returns", "mean", "std", "env", "config_digest"} <= one.keys()
    assert len(one["returns"]) == 12 and set(one["returns"]) <= {0.0, 1.0}
    assert (one["mean"], one["std"]) == (np.mean(one["returns"]), np.std(one["returns"]))
    assert (one["env"], one["config_digest"], one["seed"]) == ("dummy_recall", digest(config), 3)
    lines = by_directory.stdout.splitlines()
    assert len(lines) == 14 and lines[0] == f"episode 0: return {one['returns'][0]:.1f}, 4 policy steps"
    assert lines[-1] == "one.gif: episode 0"
    assert lines[-2].startswith(f"dummy_recall: {one['mean']:.1f} +- {one['std']:.1f} over 12 episodes")
    with Image.open(path / "one.gif") as film:
        assert film.size == (16, 16) and getattr(film, "n_frames", 1) > 1


@pytest.mark.slow
def test_an_exported_policy_acts_like_the_run_and_is_small(trained, evaluate_py):
    path = trained[0]
    exported = evaluate_py("checkpoint=run", "out=policy.safetensors", script="export.py")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.startswith("wrote policy.safetensors (") and "480 environment steps" in exported.stdout
    assert evaluate_py("checkpoint=run", "json=run.json").returncode == 0
    result = evaluate_py("checkpoint=policy.safetensors", "json=policy.json")
    assert result.returncode == 0, result.stderr
    one, other = (json.loads((path / name).read_text()) for name in ("run.json", "policy.json"))
    assert {**one, "checkpoint": "policy.safetensors"} == other
    sizes = [(path / name).stat().st_size for name in ("policy.safetensors", "run/checkpoints/last.ckpt")]
    assert str(path).encode() not in (path / "policy.safetensors").read_bytes(), "no path of this machine goes with it"
    assert sizes[0] < sizes[1] / 2, "the optimizer and the counters of replay stay behind"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "checkpoint has no value"),
        (["checkpoint=run", "out=policy.pt"], "out=policy.pt must end in .safetensors."),
        (["checkpoint=run", "out=nowhere/policy.safetensors"], "out=nowhere/policy.safetensors: the directory nowhere"),
    ],
)
def test_export_refuses_in_one_line(evaluate_py, words, expected):
    result = evaluate_py(*words, script="export.py")
    assert result.returncode == 2 and result.stderr.startswith(f"error: {expected}"), result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "checkpoint has no value"),
        (["checkpoint=nowhere"], "checkpoint=nowhere does not exist."),
        (["checkpoint=empty"], "checkpoint=empty holds no checkpoints/last.ckpt"),
        (["checkpoint=truncated.ckpt"], "checkpoint=truncated.ckpt cannot be read; it is truncated"),
        (["checkpoint=truncated.safetensors"], "checkpoint=truncated.safetensors cannot be read; it is truncated"),
        (["checkpoint=foreign.safetensors"], "checkpoint=foreign.safetensors was not written by this project."),
        (["checkpoint=other.ckpt"], "checkpoint=other.ckpt is of another architecture: "),
        (["checkpoint=run", "episodes=0"], "episodes=0 must be at least 1."),
        (["checkpoint=run", "episode=3"], "unknown key 'episode'; nearest: episodes"),
        (["checkpoint=run", "episodes=few"], "episodes=few must be a whole number"),
        (["checkpoint=run", "json=nowhere/out.json"], "json=nowhere/out.json: the directory nowhere does not exist."),
        (["checkpoint=run", "video=out.mp4"], "video=out.mp4 must end in .gif."),
        (["checkpoint=run", "dream=out.gif"], "dream=out.gif: this agent sees no pictures, so it dreams none."),
    ],
)
def test_bad_input_ends_in_one_line(trained, evaluate_py, words, expected):
    path = trained[0]
    (path / "empty").mkdir(exist_ok=True)
    data = (path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    (path / "truncated.ckpt").write_bytes(data[: len(data) // 2])
    (path / "truncated.safetensors").write_bytes(data[: len(data) // 2])
    save_file({"weight": torch.zeros(2)}, path / "foreign.safetensors")
    if "checkpoint=other.ckpt" in words:
        state = torch.load(path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        state["dreamer"]["config"]["model"]["rssm"]["deter"] *= 2
        torch.save(state, path / "other.ckpt")
    result = evaluate_py(*words)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"error: {expected}") and len(result.stderr.splitlines()) <= 2

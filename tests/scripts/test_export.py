"""scripts/export.py format=onnx|torch_export: what it leaves behind and prints, what it refuses before it begins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from dreamer.agent import Agent
from dreamer.config.compose import to_dict
from dreamer.config.digest import digest
from dreamer.envs.make import make_env
from dreamer.saved.policy_file import write_policy

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def place(tiny, tmp_path_factory) -> Path:
    """A directory with `policy.safetensors`, an agent that learned nothing, trained in bfloat16 as its config says."""
    path = tmp_path_factory.mktemp("export")
    words = ("env=dummy_counter", "env.obs=both", "env.kwargs.actions=multi_discrete", "trainer.precision=bfloat16")
    config = tiny(f"run_dir={path / 'run'}", *words)
    env = make_env(config.env)
    weights = Agent(config.model, env.obs_space, env.action_space).state_dict()
    header = {"config": to_dict(config), "digest": digest(config), "env_steps": 4000, "updates": 7}
    write_policy({"dreamer": header, "state_dict": weights}, path / "policy.safetensors")
    return path


@pytest.fixture
def export_py(place: Path):
    def export_py(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "export.py"), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=280)

    return export_py


@pytest.mark.slow
@pytest.mark.parametrize(("format", "file"), [("onnx", "policy.onnx"), ("torch_export", "policy.pt2")])
def test_a_step_is_written_checked_and_reported(export_py, place, format, file):
    result = export_py("checkpoint=policy.safetensors", f"format={format}", "mode=sample", "steps=40")
    assert result.returncode == 0, result.stderr
    wrote, beside, takes = result.stdout.splitlines()
    assert wrote.startswith(f"wrote {file} (") and "4,000 environment steps and 7 updates" in wrote
    assert beside.startswith(
        "40 steps of dummy_counter beside the agent: actions differ by 0.0e+00 of half their range"
    )
    assert re.fullmatch(r"a step takes \d+\.\d\d ms, in the agent itself \d+\.\d\d ms \(medians, one thread\)", takes)
    assert not list(place.glob("*.part*")) and result.stderr == ""
    if format == "onnx":
        session = onnxruntime.InferenceSession(place / file)
        meta = session.get_modelmeta().custom_metadata_map
        assert (meta["task"], meta["mode"], meta["action_repeat"]) == ("dummy_counter", "sample", "4")
        assert '"classes": [3, 2]' in meta["action"] and '"first": [0, 0]' in meta["action"]
        feed = {item.name: np.zeros(item.shape, TYPES[item.type]) for item in session.get_inputs()}
        action, _ = session.run(None, feed)
        assert np.asarray(action).dtype == np.int32 and np.shape(action) == (2,)


TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int32)": np.int32}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["format=onxx"], "format=onxx must be safetensors, onnx or torch_export. Did you mean onnx?"),
        (["mode=best"], "mode=best must be likeliest or sample."),
        (["steps=0"], "steps=0 must be at least 1."),
        (["out=policy.onnx"], "out=policy.onnx must end in .safetensors, or add format=onnx."),
        (["format=onnx", "out=policy.pt2"], "out=policy.pt2 must end in .onnx, or add format=torch_export."),
        (["format=torch_export", "out=policy.bin"], "out=policy.bin must end in .pt2."),
        (["format=onnx", "out=nowhere/a.onnx"], "out=nowhere/a.onnx: the directory nowhere does not exist."),
        (["format=onnx", "checkpoint=nowhere"], "checkpoint=nowhere does not exist."),
    ],
)
def test_bad_input_ends_in_one_line(export_py, words, expected):
    result = export_py("checkpoint=policy.safetensors", *words)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"error: {expected}") and len(result.stderr.splitlines()) <= 2

"""The files themselves: of every kind of agent, they run and do what the step does. Each takes seconds to make."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from tiny import ACTIONS, OBSERVATIONS, build_agent, model_config, values

from dreamer.agent import Agent
from dreamer.export.formats import METADATA, check_installed, encode, open_runner
from dreamer.export.step import Mode, PolicyStep, plain_units
from dreamer.types import Space

CAMERAS = {key: Space((8, 8, channels), "uint8") for key, channels in (("sensors.left", 3), ("sensors.right", 1))}
KINDS: list[tuple[str, str, Mode]] = [
    ("both", "continuous", "sample"),
    ("both", "multi_discrete", "sample"),
    ("vectors", "discrete", "likeliest"),
    ("cameras", "continuous", "likeliest"),
    ("patches", "continuous", "likeliest"),
]


def step_of(observed: str, actions: str, mode: Mode) -> PolicyStep:
    space = ACTIONS[actions]
    if observed == "patches":  # of 2 by 2 pixels, which torch moves as whole words
        config = model_config()
        config.encoder.patch = 2
        agent = Agent(config, CAMERAS, space)
    else:
        agent = build_agent({**OBSERVATIONS, "cameras": CAMERAS}[observed], space, standardize_vectors=True)
    return PolicyStep(agent, plain_units(space), mode)


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "torch_export"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind))
def test_a_file_does_what_the_step_does(kind, format, tmp_path: Path):
    step, path = step_of(*kind), tmp_path / "policy"
    path.write_bytes(encode(step, format, {"task": "none"}))
    run, state, shapes = open_runner(path, format), step.start(), step.noise_shapes
    for _ in range(4):
        obs = {key: values(space, 1)[0] for key, space in step.agent.obs_space.items()}
        noise = {name: torch.rand(shape) for name, shape in shapes.items()}
        action, after = step(obs, state, *noise.values())
        backwards = {key: obs[key].numpy() for key in reversed(obs)}
        theirs, got = run(backwards, state.numpy(), {key: value.numpy() for key, value in noise.items()})
        np.testing.assert_allclose(theirs, action.numpy(), atol=1e-5)
        np.testing.assert_allclose(got, after.numpy(), atol=1e-5)
        assert str(theirs.dtype) == step.agent.action_space.dtype
        state = after


@pytest.mark.slow
def test_names_shapes_and_metadata_tell_all_that_a_robot_needs(tmp_path: Path):
    step = step_of("both", "continuous", "sample")
    data = encode(step, "onnx", {"task": "walker_walk"})
    session = onnxruntime.InferenceSession(data)
    inputs = {item.name: (item.shape, item.type) for item in session.get_inputs()}
    assert inputs == {
        "obs.image": ([8, 8, 3], "tensor(uint8)"),
        "obs.height": ([], "tensor(float)"),
        "obs.pose": ([2, 3], "tensor(float)"),
        "obs.dials": ([2], "tensor(int32)"),
        "state": ([1 + 24 + 3 + 2], "tensor(float)"),
        "noise_z": ([3], "tensor(float)"),
        "noise_action": ([2], "tensor(float)"),
    }
    assert [item.name for item in session.get_outputs()] == ["action", "next_state"]
    assert session.get_modelmeta().custom_metadata_map["task"] == "walker_walk"
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    assert {node.domain for node in onnx.load_from_string(data).graph.node} == {""}, "operators of every runtime"

    file = tmp_path / "policy.pt2"
    file.write_bytes(encode(step, "torch_export", {"task": "walker_walk"}))
    extra = {METADATA: ""}
    torch.export.load(file, extra_files=extra)
    assert json.loads(extra[METADATA]) == {"task": "walker_walk"}


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    check_installed("torch_export")
    with pytest.raises(ValueError, match=r'format=onnx needs the package onnxruntime; pip install .* "\.\[onnx\]"'):
        check_installed("onnx")


def test_more_weights_than_the_format_holds_are_refused_before_anything_is_traced(monkeypatch: pytest.MonkeyPatch):
    step = step_of("vectors", "continuous", "likeliest")
    monkeypatch.setattr("dreamer.export.formats.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"format=onnx holds 2 GB, and this agent has .* take format=torch_export"):
        encode(step, "onnx", {})

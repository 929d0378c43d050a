"""Trainable parameters of every size against the table in section 2 of the specification."""

import pytest
import torch
from hydra import compose, initialize
from omegaconf import OmegaConf

from dreamer.agent import Agent
from dreamer.config.compose import register
from dreamer.config.schema import ModelConfig
from dreamer.types import Space

MILLIONS = {  # size: (64x64x3 image, 24 numbers), counted by evaluating the shapes of the authors' code
    "size1m": (0.687, 0.641),
    "size12m": (10.49, 9.74),
    "size25m": (23.49, 21.78),
    "size50m": (41.65, 38.61),
    "size100m": (93.47, 86.62),
    "size200m": (165.9, 153.8),
    "size400m": (372.9, 345.5),
}


def model_config(size: str) -> ModelConfig:
    register()
    with initialize(version_base=None, config_path="../conf"):
        model = OmegaConf.to_object(compose("config", [f"model={size}"]).model)
    assert isinstance(model, ModelConfig)
    return model


@pytest.mark.parametrize("size", MILLIONS)
@pytest.mark.parametrize("kind", ["vision", "proprio"])
def test_parameter_count_is_the_authors(size, kind):
    image = {"image": Space((64, 64, 3), "uint8")}
    vector = {
        "height": Space((), "float32"),
        "orientations": Space((14,), "float32"),
        "velocity": Space((9,), "float32"),
    }
    with torch.device("meta"):
        agent = Agent(model_config(size), image if kind == "vision" else vector, Space((6,), "float32"))
    count = sum(p.numel() for group in agent.parameter_groups().values() for p in group)
    expected = MILLIONS[size][kind == "proprio"]
    digits = 3 if expected < 1 else 2 if expected < 100 else 1
    assert round(count / 1e6, digits) == expected
    trainable = sum(p.numel() for p in agent.parameters() if p.requires_grad)
    assert trainable == count  # the slow critic is extra

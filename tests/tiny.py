"""The smallest agent that has every part, all its sizes different, and batches that fit it."""

from __future__ import annotations

import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.config.schema import (
    ActorConfig,
    CriticConfig,
    DecoderConfig,
    EncoderConfig,
    ExploreConfig,
    HeadConfig,
    ImaginationConfig,
    ModelConfig,
    RSSMConfig,
)
from dreamer.types import Batch, Space

IMAGE = {"image": Space((8, 8, 3), "uint8")}
VECTORS = {"height": Space((), "float32"), "pose": Space((2, 3), "float32"), "dials": Space((2,), "int32", (4, 2))}
BOTH = {**IMAGE, **VECTORS}
CONTINUOUS = Space((2,), "float32")
DISCRETE = Space((1,), "int32", (6,))
MULTI_DISCRETE = Space((3,), "int32", (2, 5, 3))
ACTIONS = {"continuous": CONTINUOUS, "discrete": DISCRETE, "multi_discrete": MULTI_DISCRETE}
OBSERVATIONS = {"image": IMAGE, "vectors": VECTORS, "both": BOTH}


def model_config() -> ModelConfig:
    """Output layers that start at zero in the paper start at random here: through zeros no gradient passes."""
    return ModelConfig(
        name="tiny",
        units=14,
        depth=2,
        rssm=RSSMConfig(deter=24, hidden=10, stoch=3, classes=5, blocks=4),
        encoder=EncoderConfig(layers=2, mults=[2, 3]),
        decoder=DecoderConfig(layers=2, mults=[2, 3], blocks=2),
        reward=HeadConfig(bins=21, outscale=1.0),
        actor=ActorConfig(layers=2, outscale=1.0),
        critic=CriticConfig(layers=2, bins=23, outscale=1.0),
        imagination=ImaginationConfig(horizon=4),
    )


def build_agent(
    obs_space: dict[str, Space] = BOTH,
    action_space: Space = CONTINUOUS,
    standardize_vectors: bool = False,
    explore: ExploreConfig | None = None,
) -> Agent:
    config = model_config()
    config.standardize_vectors = standardize_vectors
    return Agent(config, obs_space, action_space, explore=explore)


def values(space: Space, *batch: int) -> Tensor:
    """Random observations or actions."""
    if space.is_discrete:
        return torch.stack([torch.randint(0, n, batch, dtype=torch.int32) for n in space.classes], -1)
    if space.dtype == "uint8":
        return torch.randint(0, 256, (*batch, *space.shape), dtype=torch.uint8)
    return torch.randn(*batch, *space.shape)


def build_batch(agent: Agent, rows: int = 2, length: int = 6) -> Batch:
    """Random sequences without episode ends, after a random context."""
    rssm = agent.world_model.rssm
    no = torch.zeros(rows, length, dtype=torch.bool)
    return Batch(
        obs={key: values(space, rows, length) for key, space in agent.obs_space.items()},
        prev_action=values(agent.action_space, rows, length),
        reward=torch.randn(rows, length),
        is_first=no.clone(),
        is_last=no.clone(),
        is_terminal=no.clone(),
        context_deter=torch.randn(rows, rssm.deter),
        context_stoch=torch.randint(0, rssm.classes, (rows, rssm.stoch)),
        row_ids=torch.zeros(rows, 2, dtype=torch.int64),
    )


def has_gradient(module: torch.nn.Module) -> bool:
    return any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())

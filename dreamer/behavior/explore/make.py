"""From the words explore=... to what they mean."""

from __future__ import annotations

from dreamer.behavior.explore.disagreement import Disagreement
from dreamer.behavior.explore.noise import Noise
from dreamer.behavior.explore.policy import Explore
from dreamer.config.schema import ExploreConfig, ModelConfig
from dreamer.types import Space


def make_explore(config: ExploreConfig, model: ModelConfig, features: int, action_space: Space) -> Explore:
    if config.name == "noise":
        return Noise(config, action_space)
    if config.name == "disagreement":
        return Disagreement(config, model, features, action_space)
    return Explore()

"""A process for each device, as Lightning's strategy."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import DDPStrategy

from dreamer import ranks
from dreamer.config.schema import TrainerConfig


class Replicas(DDPStrategy):
    """DDP in a group that is there already (`group.join`), where the module averages its gradients by itself.

    torch's wrapper averages in hooks of the backward pass, which a CUDA graph of losses and gradients would have to
    record too, and copies rank 0's buffers in every forward pass.
    """

    strategy_name = "replicas"

    def setup_distributed(self) -> None:
        """Lightning would also seed all ranks alike here."""
        self.set_world_ranks()

    def configure_ddp(self) -> None:
        """Nothing wraps the module."""

    def _configure_launcher(self) -> None:
        self._launcher = None


def processes(config: TrainerConfig) -> dict[str, Any]:
    """What L.Trainer is to be told of the processes of a run."""
    if ranks.is_alone():
        return {"devices": 1}
    return {"devices": config.devices, "num_nodes": config.num_nodes, "strategy": Replicas()}

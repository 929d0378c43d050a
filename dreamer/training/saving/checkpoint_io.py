"""How a checkpoint is written: where it belongs, and whole."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from dreamer.saved.checkpoint_file import add_sum, under_present_names
from dreamer.saved.checks import tensors_of
from dreamer.training.saving.disk import check_room, writing

ROOM = 1.02  # bytes on disk for a byte of tensors, more or less: the names and places of many small ones


class CheckpointFile(CheckpointIO):
    """Lightning's own one writes into the system's temporary folder first, which may be small and on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """The whole file is on disk when this returns. What a failure leaves is removed."""
        path, nbytes = Path(path), int(ROOM * sum(tensor.nbytes for _, tensor in tensors_of(checkpoint)))
        check_room(path, nbytes)
        try:
            with writing(path, nbytes), path.open("w+b") as file:
                torch.save(checkpoint, file)
                add_sum(file)
                file.flush()
                os.fsync(file.fileno())  # or a power cut could leave the new name with nothing in it
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """`read_checkpoint` has checked it by now; layers of older runs get their present names."""
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {**state, "state_dict": under_present_names(state["state_dict"])}

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)

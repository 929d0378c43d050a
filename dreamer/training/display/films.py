"""Pictures that move."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def open_loop_frames(
    truth: Float[Tensor, "B T h w c"], model: Float[Tensor, "B T h w c"], context: int
) -> list[np.ndarray]:
    """Frames of truth, model and error stacked; a green edge while the model sees the truth, red while it dreams.

    Both in [0, 1]. The error is (model - truth + 1) / 2, so grey is right.
    """
    rows = [truth, model, (model - truth + 1) / 2]
    video = torch.stack([row.float().cpu().clamp(0, 1) for row in rows], dim=2)  # B T 3 h w c
    video = video[..., :3] if video.shape[-1] >= 3 else video[..., :1].expand(*video.shape[:-1], 3)
    pixels = (video * 255).round().to(torch.uint8)
    pixels[:, :context, 1, :2] = torch.tensor([0, 200, 0], dtype=torch.uint8)
    pixels[:, context:, 1, :2] = torch.tensor([220, 0, 0], dtype=torch.uint8)
    _, time_steps, rows_count, height, _, _ = pixels.shape
    pixels = pixels.permute(1, 2, 3, 0, 4, 5).reshape(time_steps, rows_count * height, -1, 3)
    return list(pixels.numpy())


def encode_gif(frames: list[np.ndarray], fps: float = 20.0) -> bytes:
    """uint8 [h w 3] frames as an endless GIF. One palette, so that colours do not flicker between frames."""
    images = [Image.fromarray(frame) for frame in frames]
    sampled = frames[:: -(-len(frames) // 32)]  # from all over the film: what only some frames show has its colours too
    palette = Image.fromarray(np.concatenate(sampled)).quantize(colors=256)
    paletted = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    buffer = io.BytesIO()
    paletted[0].save(
        buffer, "GIF", save_all=True, append_images=paletted[1:], duration=max(20, round(1000 / fps)), loop=0
    )
    return buffer.getvalue()


def write_gif(path: Path, frames: list[np.ndarray], fps: float = 20.0) -> bytes:
    data = encode_gif(frames, fps)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return data

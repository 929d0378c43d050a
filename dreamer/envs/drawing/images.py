"""Pictures of other people's environments as ours: uint8 [h w c], of a size that the networks can halve."""

from __future__ import annotations

import numpy as np
from PIL import Image

MULTIPLE = 16  # of the encoder and decoder: four stages of factor 2
LARGEST = 96  # pixels that are kept where the user names no size
CHANNELS = (1, 3, 4)
SMALLEST = 16  # pixels of a side that make numbers look like a picture


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 [h w c] -> uint8 [height width c]: each pixel is the mean of the area that it covers."""
    if image.shape[:2] == (height, width):
        return image
    if image.shape[2] == 3:
        return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))
    # One by one: Pillow takes a fourth channel for transparency, and weights the others with it.
    channels = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(image.shape[2])]
    return np.stack([np.asarray(c.resize((width, height), Image.Resampling.BOX)) for c in channels], axis=-1)


def is_picture(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """uint8 of two dimensions, or of three of which the last, else the first, are channels.

    With a side below SMALLEST it is rather a board or a code, such as the kind of what lies in each of 7 x 7 squares:
    as a picture from 0 to 255 such numbers would all be black.
    """
    return dtype == np.uint8 and min(_sides(shape), default=0) >= SMALLEST


def is_drawing(image: np.ndarray) -> bool:
    """Whether `channels_last` takes it as uint8; of any size, since it was drawn to be looked at."""
    return len(_sides(image.shape)) == 2


def has_the_shape_of_a_picture(shape: tuple[int, ...]) -> bool:
    """Whether numbers of this shape, of any type, look like a picture."""
    return len(shape) == 3 and min(_sides(shape), default=0) >= SMALLEST


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of what may be a picture, () of what cannot be one."""
    if len(shape) == 2 or (len(shape) == 3 and shape[2] in CHANNELS):
        return shape[:2]
    return shape[1:] if len(shape) == 3 and shape[0] in CHANNELS else ()


def channels_last(image: np.ndarray) -> np.ndarray:
    """Any array that `is_drawing` takes, as [h w c]."""
    if image.ndim == 2:
        return image[..., None]
    return image if image.shape[2] in CHANNELS else np.ascontiguousarray(image.transpose(1, 2, 0))


def in_colour(image: np.ndarray) -> np.ndarray:
    """A picture [h w c] for people, [h w 3]: one channel is grey, a fourth (transparency, depth) is left out."""
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def side_by_side(images: list[np.ndarray]) -> np.ndarray:
    """Pictures [h w c] of one size for people, [h n*w 3]."""
    return np.concatenate([in_colour(image) for image in images], axis=1)


def common_size(sizes: list[tuple[int, int]], size: int | None) -> tuple[int, int]:
    """Height and width for all pictures of an observation, which the encoder stacks on their channels.

    `size` is the user's wish. Without one they get the height and width of the largest, each rounded to a multiple of
    16; pictures of more than 96 pixels become 64 x 64.
    """
    if size is not None:
        return size, size
    height, width = (max(axis) for axis in zip(*sizes, strict=True))
    if max(height, width) > LARGEST:
        return 64, 64
    return _rounded(height), _rounded(width)


def shrink(image: np.ndarray, largest: int = 256) -> np.ndarray:
    """A picture for people, no side longer than `largest`."""
    scale = min(1.0, largest / max(image.shape[:2]))
    return resize(image, round(image.shape[0] * scale), round(image.shape[1] * scale))


def _rounded(pixels: int) -> int:
    return max(MULTIPLE, (pixels + MULTIPLE // 2) // MULTIPLE * MULTIPLE)

"""Pictures that move."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image

from dreamer.training.display.films import open_loop_frames, write_gif


def test_gif_keeps_number_size_and_colours_of_its_frames(tmp_path):
    frames = [np.full((8, 12, 3), (10 * index, 0, 200 - 9 * index), np.uint8) for index in range(21)]
    data = write_gif(tmp_path / "videos" / "film.gif", frames)
    assert (tmp_path / "videos" / "film.gif").read_bytes() == data
    film = Image.open(io.BytesIO(data))
    assert (film.n_frames, film.size, film.info["loop"]) == (21, (12, 8), 0)
    for index, frame in enumerate(frames):
        film.seek(index)
        shown = np.asarray(film.convert("RGB")).astype(int)
        assert abs(shown - frame).max() <= 4, "no frame takes the colours of another"


def test_open_loop_film_stacks_truth_model_and_error_side_by_side_with_coloured_edges():
    truth, model = torch.zeros(2, 3, 8, 8, 3), torch.zeros(2, 3, 8, 8, 3)
    truth[0, :, ..., 0], model[1, :, ..., 2] = 1.0, 1.0  # sequence 0: true red; sequence 1: the model sees blue
    frames = open_loop_frames(truth, model, context=2)
    assert len(frames) == 3 and all(frame.shape == (3 * 8, 2 * 8, 3) and frame.dtype == np.uint8 for frame in frames)
    for t, frame in enumerate(frames):
        top, middle, bottom = frame[4], frame[12], frame[20]  # the middle line of each band
        assert (top[4] == [255, 0, 0]).all() and (top[12] == 0).all()
        assert (middle[4] == 0).all() and (middle[12] == [0, 0, 255]).all()
        assert (bottom[4] == [0, 128, 128]).all() and (bottom[12] == [128, 128, 255]).all()
        edge = [0, 200, 0] if t < 2 else [220, 0, 0]
        assert (frame[8:10] == edge).all() and not (frame[10:] == [220, 0, 0]).all(-1).any()


def test_open_loop_film_of_four_channels_leaves_the_last_one_out():
    truth = torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(1, 2, 4, 4, 4)
    assert (open_loop_frames(truth, truth, context=1)[0][:4] == [255, 0, 255]).all()


def test_open_loop_film_of_one_channel_is_grey():
    frames = open_loop_frames(torch.ones(1, 2, 4, 4, 1), torch.zeros(1, 2, 4, 4, 1), context=1)
    assert frames[0].shape == (12, 4, 3) and (frames[0][:4] == 255).all()

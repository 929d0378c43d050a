"""A film of what a viewer sees: pictures side by side or in a grid, and lines of reward and value below them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dreamer.training.display.films import encode_gif
from dreamer.viewer.pictures import Picture
from dreamer.viewer.session import Session

MOST_FRAMES = 200
FASTEST_FILM = 25.0  # frames in a second; browsers show no GIF much faster
SIZE, GRID_SIZE, GAP, STRIP = 240, 160, 8, 96  # pixels
PAPER, INK, FAINT, DREAM = (250, 249, 246), (40, 42, 48), (205, 204, 200), (109, 76, 196)


class Line(NamedTuple):
    """A number over the frames of a film: real [T], nan where nothing real is known, and dreamed [T N]."""

    name: str
    real: np.ndarray
    dreamed: np.ndarray


class Film(NamedTuple):
    """frames: of each, its named pictures. Nothing in it changes any more, so another thread may encode it."""

    frames: list[list[tuple[str, Picture]]]
    lines: list[Line]
    rate: float

    def encode(self) -> bytes:
        """An endless GIF."""
        return encode_gif([self._draw(index) for index in range(len(self.frames))], min(self.rate, FASTEST_FILM))

    def _draw(self, index: int) -> np.ndarray:
        pictures = self.frames[index]
        columns = len(pictures) if len(pictures) <= 3 else math.ceil(math.sqrt(len(pictures)))
        size, title = (SIZE, 20) if len(pictures) <= 3 else (GRID_SIZE, 0)
        rows = math.ceil(len(pictures) / max(columns, 1))
        width = max(columns * (size + GAP) + GAP, 2 * SIZE)
        top = rows * (size + GAP + title) + GAP
        canvas = Image.new("RGB", (width, top + STRIP), PAPER)
        draw = ImageDraw.Draw(canvas)
        for place, (name, picture) in enumerate(pictures):
            x, y = GAP + place % columns * (size + GAP), GAP + place // columns * (size + GAP + title)
            if title:
                draw.text((x, y), name, DREAM if name.startswith("dream") else INK, ImageFont.load_default(13))
            image = Image.fromarray(picture.pixels())
            canvas.paste(image.resize((size, size), Image.Resampling.BICUBIC), (x, y + title))
        for place, line in enumerate(self.lines):
            left = GAP + place * (width - GAP) // len(self.lines)
            box = (left, top + 18, left + (width - GAP) // len(self.lines) - GAP, top + STRIP - GAP)
            draw.text((left, top), line.name, INK, ImageFont.load_default(13))
            _draw_line(draw, line, index, box)
        return np.asarray(canvas)


def film_of(session: Session) -> Film:
    """The last MOST_FRAMES rows up to the one that is shown; ValueError where there is only one."""
    if session.mode == "watch":
        rows = range(max(0, session.at + 1 - MOST_FRAMES), session.at + 1)
        seen = [(session.dream_at(t), t) for t in rows]
        dreams = [(track.pictures[t - track.start], track.dream.rows[t - track.start]) for track, t in seen]
        frames = [
            [("real", session.real.pictures[t][0]), ("reconstruction", session.real.pictures[t][1]),
             *(("dream", picture) for picture in pictures)]
            for t, (pictures, _) in zip(rows, dreams, strict=True)
        ]  # fmt: skip
    else:
        track = session.shown_dream
        steps = range(max(0, session.step + 1 - MOST_FRAMES), session.step + 1)
        rows = range(track.start + steps.start, track.start + steps.stop)
        dreams = [(track.pictures[step], track.dream.rows[step]) for step in steps]
        frames = [[("dream", picture) for picture in pictures] for pictures, _ in dreams]
    if len(rows) < 2:
        raise ValueError("There is only one frame so far; let it play a little.")
    real = session.real.episode.rows if session.mode != "steer" else session.real.episode.rows[: session.at + 1]
    lines = []
    for name in ("reward", "value"):
        known = [float(getattr(real[t].told, name)) if t < len(real) else math.nan for t in rows]
        dreamed = np.array([getattr(row.told, name) for _, row in dreams], float)
        lines.append(Line(f"{name}: real, dreamed", np.array(known), dreamed))
    there = [[(name, picture) for name, picture in frame if picture is not None] for frame in frames]
    return Film(there, lines, session.rate)


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, index: int, box: tuple[int, int, int, int]) -> None:
    """The line up to a frame, in a scale that stays the same for the whole film."""
    left, top, right, bottom = box
    draw.line([(left, bottom), (right, bottom)], FAINT)
    values = np.concatenate([line.real, line.dreamed.ravel()])
    low, high = np.nanmin(values), np.nanmax(values)
    x = np.linspace(left, right, len(line.real))
    for series, colour in [*((part, DREAM) for part in line.dreamed.T), (line.real, INK)]:
        y = bottom - (series - low) / max(high - low, 1e-6) * (bottom - top)
        points = [(float(a), float(b)) for a, b in zip(x[: index + 1], y[: index + 1], strict=True) if np.isfinite(b)]
        if len(points) > 1:
            draw.line(points, colour, width=1)

"""Charts as inline SVG that needs no library: the plot stretches with the page, its words are HTML and keep their size.

Colours are classes c0, c1, ... of page.css, which has them for light and dark. page.js reads the points of a line back
from its path and shows those under the pointer; without it the chart is complete but silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

import numpy as np

NUM_COLORS = 8
SIDE = 1000.0  # of the SVG's own square, which the page stretches


class Line(NamedTuple):
    """A line [N] over [N], gaps where y is nan. look: `line`, `thin`, `published`; of points `dots`, `marks`, `knots`.

    `name` is what is shown under the pointer; a line without one is silent.
    """

    x: np.ndarray
    y: np.ndarray
    color: str
    look: str = "line"
    name: str = ""


class Band(NamedTuple):
    """The area between low [N] and high [N]; as single bars where `is_bars`."""

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    color: str
    is_bars: bool = False


@dataclass
class Chart:
    """What is drawn over one axis, `x_name` with an x at `x_low` to `x_high`. `height`: tall or low."""

    title: str
    x_name: str
    x_high: float
    lines: list[Line] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    y_low: float | None = None  # shown in any case
    height: str = "low"


def color(index: int) -> str:
    return f"c{index % NUM_COLORS}"


def compact(value: int | float) -> str:
    """A number in at most six letters: 250k, 1.2M, 0.05, 3e-5."""
    size = abs(value)
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= unit:
            return f"{value / (1000 if letter == 'k' else unit):.4g}{letter}"
    if size and size < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")
    return f"{value:.4g}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers in [low, high], about `most` of them, evenly spread."""
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    marks = [float(index * step) for index in range(first, math.floor(high / step + 1e-9) + 1)]
    return marks if len(marks) > 1 or most > 9 else ticks(low, high, most + 2)


def thin(x: np.ndarray, y: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points [N]: the means of neighbours."""
    if len(x) <= most:
        return x, y
    parts = np.array_split(np.arange(len(x)), most)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def draw(chart: Chart) -> str:
    """A <figure>; with a word in place of the plot where there is nothing to draw."""
    values = np.concatenate(
        [*(line.y for line in chart.lines), *(edge for band in chart.bands for edge in (band.low, band.high))] or [[]]
    )
    values = values[np.isfinite(values)]
    title = f"<figcaption>{escape(chart.title)}</figcaption>" if chart.title else ""
    if not len(values) or chart.x_high <= 0:
        return f'<figure class="chart {chart.height}">{title}<p class="empty">nothing yet</p></figure>'
    is_log = wants_log(chart, values)
    low, high = limits(values, chart.y_low, is_log)
    marks = log_ticks(low, high) if is_log else ticks(low, high, 5 if chart.height == "tall" else 3)
    place = Place(chart.x_high, low, high, is_log)
    y_words = "".join(
        f'<span style="bottom:{100 - place.y(mark) / SIDE * 100:.2f}%">{compact(mark)}</span>' for mark in marks
    )
    rule = "".join(f"M0 {place.y(mark):.1f}H{SIDE:.0f}" for mark in marks)
    x_marks = [
        mark for mark in ticks(0.0, chart.x_high, 5 if chart.height == "tall" else 3) if mark < chart.x_high * 1.01
    ]
    x_words = "".join(f'<span style="left:{mark / chart.x_high * 100:.2f}%">{compact(mark)}</span>' for mark in x_marks)
    return (
        f'<figure class="chart {chart.height}">{title}<div class="frame"><div class="y">{y_words}</div>'
        f'<div class="plot" data-x="{chart.x_high:.6g}" data-low="{low:.6g}" data-high="{high:.6g}" '
        f'data-log="{int(is_log)}" data-unit="{escape(chart.x_name)}">'
        f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{escape(describe(chart))}">'
        f'<path class="rule" d="{rule}"/>{"".join(_band(band, place) for band in chart.bands)}'
        f"{''.join(_line(line, place) for line in chart.lines)}</svg></div>"
        f'<div class="x">{x_words}</div></div><div class="unit">{escape(chart.x_name)}</div></figure>'
    )


class Place(NamedTuple):
    """From data to the square of the SVG, whose y grows downwards."""

    x_high: float
    low: float
    high: float
    is_log: bool

    def x(self, value: int | float) -> float:
        return value / self.x_high * SIDE

    def y(self, value: int | float) -> float:
        if self.is_log:
            return SIDE * (1 - math.log(value / self.low) / math.log(self.high / self.low))
        return SIDE * (1 - (value - self.low) / (self.high - self.low))


def wants_log(chart: Chart, values: np.ndarray) -> bool:
    """Where all is above zero, and the largest would press the rest to the ground."""
    return chart.y_low is None and bool(values.min() > 0 and values.max() > 12 * np.median(values))


def limits(values: np.ndarray, y_low: float | None, is_log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if y_low is not None:
        low = min(low, y_low)
    if is_log:
        return low / 1.15, high * 1.15
    room = 0.06 * (high - low) or max(abs(high), 1e-9) * 0.1
    return low if low == y_low else low - room, high + room


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten in [low, high], with 2 and 5 between them where these are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if high / low > 200 else (1, 2, 5) if high / low < 20 else (1, 3)
    marks = [factor * 10.0**power for power in powers for factor in factors if low <= factor * 10.0**power <= high]
    return marks[:: -(-len(marks) // 5)] if marks else [low, high]


def describe(chart: Chart) -> str:
    """What the chart says, for who cannot see it: each named line's last value."""
    ends = [(line.name, line.y[np.isfinite(line.y)]) for line in chart.lines if line.name]
    parts = [f"{name} ends at {compact(float(y[-1]))}" for name, y in ends if len(y)]
    return f"{chart.title or 'Chart'} over {chart.x_name}. {'; '.join(parts[:20])}"


def _line(line: Line, place: Place) -> str:
    known = np.isfinite(line.y) & (line.x <= place.x_high * 1.001)
    points = [f"{place.x(x):.1f} {place.y(y):.1f}" for x, y in zip(line.x[known], line.y[known], strict=True)]
    if not points:
        return ""
    if line.look in ("dots", "marks", "knots"):
        path = "".join(f"M{point}z" for point in points)
    else:
        gaps = np.flatnonzero(np.diff(np.flatnonzero(known)) > 1) + 1
        starts = {0, *gaps.tolist()}
        path = "".join(f"{'M' if index in starts else 'L'}{point}" for index, point in enumerate(points))
        if len(points) == 1:
            path += "z"  # a line of one point is a dot
    name = f' data-name="{escape(line.name)}"' if line.name else ""
    return f'<path class="{line.look} {line.color}"{name} d="{path}"/>'


def _band(band: Band, place: Place) -> str:
    known = np.isfinite(band.low) & np.isfinite(band.high) & (band.x <= place.x_high * 1.001)
    if band.is_bars:
        bars = "".join(
            f"M{place.x(x):.1f} {place.y(low):.1f}V{place.y(high):.1f}"
            for x, low, high in zip(band.x[known], band.low[known], band.high[known], strict=True)
        )
        return f'<path class="bars {band.color}" d="{bars}"/>'
    pieces = np.split(np.flatnonzero(known), np.flatnonzero(np.diff(np.flatnonzero(known)) > 1) + 1)
    areas = []
    for piece in pieces:
        there = [f"{place.x(float(band.x[i])):.1f} {place.y(float(band.high[i])):.1f}" for i in piece]
        back = [f"{place.x(float(band.x[i])):.1f} {place.y(float(band.low[i])):.1f}" for i in piece[::-1]]
        if len(piece) > 1:
            areas.append(f"M{'L'.join([*there, *back])}z")
    return f'<path class="band {band.color}" d="{"".join(areas)}"/>' if areas else ""

"""Charts, worked by hand in a square of 1,000."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dreamer.report.charts import Band, Chart, Line, compact, draw, thin, ticks


def paths(html: str, look: str) -> list[str]:
    return re.findall(rf'<path class="{look} c0"[^>]* d="([^"]*)"', html)


def test_points_stand_where_their_values_say():
    chart = Chart("a", "steps", 10.0, y_low=0.0)
    chart.lines.append(Line(np.array([0.0, 5.0, 10.0]), np.array([0.0, 53.0, 100.0]), "c0", "line", "one"))
    html = draw(chart)
    # y from 0 to 106: 6 % of the range of 100 above it.
    assert paths(html, "line") == ["M0.0 1000.0L500.0 500.0L1000.0 56.6"]
    assert 'data-x="10" data-low="0" data-high="106" data-log="0"' in html


def test_a_line_has_gaps_and_what_lies_beyond_the_axis_is_not_drawn():
    chart = Chart("", "steps", 4.0, y_low=0.0)
    y = np.array([1.0, np.nan, 1.0, 1.0, 1.0])
    chart.lines.append(Line(np.array([0.0, 1.0, 2.0, 4.0, 5.0]), y, "c0"))
    assert [piece.count("L") for piece in paths(draw(chart), "line")[0].split("M")[1:]] == [0, 1]


def test_a_band_is_an_area_and_whiskers_are_bars():
    band = Band(np.array([0.0, 10.0]), np.array([0.0, 0.0]), np.array([10.0, 10.0]), "c0")
    html = draw(Chart("", "steps", 10.0, bands=[band, band._replace(is_bars=True)], y_low=0.0))
    (area,), (bars,) = paths(html, "band"), paths(html, "bars")
    assert area.startswith("M0.0 ") and area.endswith("L1000.0 1000.0L0.0 1000.0z")
    assert bars.count("V1000") == 0 and bars.count("M") == 2 and bars.count("V") == 2


def test_values_over_several_powers_of_ten_have_a_logarithmic_axis():
    x, y = np.arange(1.0, 6.0), np.array([1000.0, 10.0, 1.0, 1.0, 1.0])
    assert 'data-log="1"' in draw(Chart("", "steps", 5.0, [Line(x, y, "c0")]))
    assert 'data-log="0"' in draw(Chart("", "steps", 5.0, [Line(x, y - 1, "c0")])), "zero has no place on one"


def test_nothing_to_draw_is_said():
    assert "nothing yet" in draw(Chart("a", "steps", 10.0))
    assert "nothing yet" in draw(Chart("a", "steps", 10.0, [Line(np.zeros(1), np.array([np.nan]), "c0")]))
    assert "nothing yet" in draw(Chart("a", "steps", 0.0, [Line(np.zeros(1), np.ones(1), "c0")]))


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-12, 1e30])
def test_a_constant_has_an_axis_too(value):
    assert "<span" in draw(Chart("a", "steps", 10.0, [Line(np.array([1.0, 2.0]), np.array([value, value]), "c0")]))


def test_names_are_escaped():
    html = draw(Chart("<b>", "<i>", 1.0, [Line(np.ones(1), np.ones(1), "c0", "line", '"><script>')]))
    assert "<script>" not in html and "<b>" not in html and "<i>" not in html
    assert "&quot;&gt;&lt;script&gt;" in html


def test_ticks_are_round_and_at_least_two():
    assert ticks(0.0, 200_000.0) == [0, 50_000, 100_000, 150_000, 200_000]
    assert np.allclose(ticks(0.13, 0.31), [0.15, 0.2, 0.25, 0.3])
    assert len(ticks(14.0, 190.0, 3)) >= 2


def test_numbers_are_short():
    shown = [compact(value) for value in (0, 5, 1234.4, 50_000, 2.5e6, -0.25, 3e-5, 1e9)]
    assert shown == ["0", "5", "1234", "50k", "2.5M", "-0.25", "3e-5", "1G"]


def test_many_points_become_means_of_neighbours():
    x, y = thin(np.arange(10.0), np.arange(10.0) * 2, 5)
    assert x.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5] and y.tolist() == [1, 5, 9, 13, 17]

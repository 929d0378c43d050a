"""What several seeds say together: bins, interquartile mean and its interval, against numbers worked by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer.config.compose import parse
from dreamer.report.curves import bootstrap_iqm, group_by_experiment, iqm, read_curve, read_published, summarize


def test_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert iqm(np.array([100.0, 1.0, 2.0, 3.0])) == 2.5, "1 and 100 go"
    assert iqm(np.array([5.0])) == 5.0
    assert iqm(np.arange(8.0)) == 3.5


def test_bins_hold_the_episodes_that_ended_in_them():
    x = np.array([10.0, 20.0, 30.0, 40.0])
    summary = summarize([x, x], [np.array([1.0, 3.0, 5.0, 7.0]), np.array([3.0, 5.0, 7.0, 9.0])], last=40.0, num_bins=2)
    assert summary.center.tolist() == [10, 30]
    assert summary.seeds.tolist() == [[2, 6], [4, 8]], "bins are (0, 20] and (20, 40]"
    assert summary.middle.tolist() == [3, 7] and summary.low is None, "two seeds have a mean, but no interval"


def test_a_bin_that_a_run_has_not_reached_is_empty():
    summary = summarize([np.array([10.0]), np.array([10.0, 30.0])], [np.ones(1), np.ones(2)], last=40.0, num_bins=2)
    assert summary.middle[0] == 1 and np.isnan(summary.middle[1])


def test_interval_of_three_seeds_holds_their_middle_and_grows_with_their_spread():
    runs = [np.full(4, 10.0), np.full(4, 20.0), np.full(4, 30.0)]
    middle, low, high = bootstrap_iqm(runs)
    assert middle == 20 and (low, high) == (10, 30), "three times the same run happens once in nine draws"
    narrow = bootstrap_iqm([run / 10 + 18 for run in runs])
    assert low < narrow[1] < narrow[0] < narrow[2] < high
    assert summarize([np.arange(1.0, 5)] * 3, runs, last=4.0, num_bins=1).middle.tolist() == [20]


def test_runs_side_by_side_that_differ_in_the_seed_alone_are_one_experiment(composed):
    first = parse(composed("seed=1"))
    second, other = replace(first, seed=2, run_dir="elsewhere"), parse(composed("seed=1", "trainer.train_ratio=64"))
    runs = {"sweep/0": first, "sweep/1": second, "sweep/2": other, "walker/seed1": first, "far/walker/seed2": second}
    groups = group_by_experiment({Path(name): config for name, config in runs.items()})
    named = {name: [path.as_posix() for path in paths] for name, paths in groups.items()}
    assert named == {
        "sweep": ["sweep/0", "sweep/1"],
        "2": ["sweep/2"],
        "walker/seed1": ["walker/seed1"],
        "far/walker/seed2": ["far/walker/seed2"],
    }, "two directories called walker are told apart by their paths"


def test_returns_are_read_with_their_wall_time_in_hours(tmp_path):
    (tmp_path / "returns.csv").write_text("env_step,wall_seconds,return,length\n1000,1800,12.5,500\n", encoding="utf-8")
    curve = read_curve(tmp_path)
    assert (curve.env_step.tolist(), curve.hours.tolist(), curve.ret.tolist()) == ([1000], [0.5], [12.5])
    (tmp_path / "returns.csv").write_text("env_step,wall_seconds,return,length\n", encoding="utf-8")
    with pytest.raises(ValueError, match="holds no episode"):
        read_curve(tmp_path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("", "line 2 is blank"),
        ("500,900", "line 2 has 2 of 4 values ('500,900')"),
        ("500,900,x,500", "line 2 holds something that is no number ('500,900,x,500')"),
    ],
)
def test_damaged_line_of_returns_is_named(tmp_path, line, fault):
    text = f"env_step,wall_seconds,return,length\n{line}\n1000,1800,12.5,500\n"
    (tmp_path / "returns.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs: .*returns\.csv is damaged: ") as caught:
        read_curve(tmp_path)
    assert fault in str(caught.value)


def test_published_figures_of_walker_walk_are_there():
    vision = read_published("walker_walk", "vision")["DreamerV3"]
    assert vision[vision[:, 0] == 100_000, 1] == [648.1]
    state = read_published("walker_walk", "proprio")
    assert "SAC" in state and "DreamerV3" not in state  # of the first version: docs/differences.md
    assert not read_published("no_task", "vision")

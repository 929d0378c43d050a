"""Optuna's pruner decides by the curves of the jobs beside a trial."""

from __future__ import annotations

import numpy as np
import pytest

from dreamer.report.curves import Curve
from dreamer.sweep.pruning import Judge, Pruning, means

AT_ONCE = {"n_startup_trials": 2, "n_warmup_steps": 0}


def test_windows_hold_the_episodes_that_ended_in_them():
    curve = Curve(np.array([50.0, 100, 150, 350, 410]), np.zeros(5), np.array([1.0, 3, 5, 7, 9]))
    assert means(curve, every=100, env_step=410) == {100: 2.0, 200: 5.0, 400: 7.0}, "the window up to 500 is not over"


def test_a_trial_below_the_median_of_the_finished_ones_ends_and_says_why(job, tmp_path):
    job(0, [10.0, 20.0, 30.0], is_finished=True)
    job(1, [10.0, 40.0, 50.0], is_finished=True)
    worse = job(2, [5.0, 29.0])
    judge = Judge(Pruning(every=100, kwargs=AT_ONCE), tmp_path / "sweep", worse, 1000)
    assert judge.hopeless(199) is not None, "5 < 10 at step 100"
    (worse / "returns.csv").write_text("env_step,wall_seconds,return,length\n100,1,10,5\n200,2,29,5\n")
    why = judge.hopeless(230)
    assert why is not None and why.startswith("MedianPruner ends this trial: its mean training return in the 100 ")
    assert why.endswith("up to 200 is 29.0, the best so far 29.0; finished trials had 40.0, 20.0 there.")


def test_a_good_trial_goes_on_and_is_looked_at_once_a_window(job, tmp_path):
    for number in (0, 1):
        job(number, [10.0, 10.0], is_finished=True)
    good = job(2, [11.0])
    judge = Judge(Pruning(every=100, kwargs=AT_ONCE), tmp_path / "sweep", good, 1000)
    assert judge.hopeless(99) is None and judge.seen == 0
    assert judge.hopeless(100) is None and judge.seen == 1
    (good / "returns.csv").unlink()
    assert judge.hopeless(150) is None and judge.seen == 1, "not read again before step 200"


def test_unfinished_trials_prune_none_and_the_last_step_is_left_alone(job, tmp_path):
    job(0, [10.0], is_finished=True)
    job(1, [10.0])  # stopped
    bad = job(2, [1.0])
    assert Judge(Pruning(every=100, kwargs=AT_ONCE), tmp_path / "sweep", bad, 1000).hopeless(120) is None
    job(3, [10.0], is_finished=True)
    assert Judge(Pruning(every=100, kwargs=AT_ONCE), tmp_path / "sweep", bad, 1000).hopeless(120) is not None
    assert Judge(Pruning(every=100, kwargs=AT_ONCE), tmp_path / "sweep", bad, 100).hopeless(100) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"every": 0}, "every=0 must be a whole number, at least 1"),
        ({"pruner": "Median"}, "pruner=Median must be one of HyperbandPruner, MedianPruner, "),
        ({"kwargs": {"n_startup": 1}}, "unexpected keyword argument 'n_startup'"),
    ],
)
def test_bad_values_are_named(values, words):
    with pytest.raises(ValueError, match=r"hydra\.callbacks\.prune: ") as error:
        Pruning(**values).check()
    assert words in str(error.value)

"""What a sweep looks at before it begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dreamer.sweep.plan import Planned, check_counts, check_extras, check_shared, is_there, jobs_at_once

CONF = Path(__file__).parents[2] / "conf"


def launcher(name: str, **changes: object):
    file = OmegaConf.load(CONF / "hydra" / "launcher" / f"{name}.yaml")
    values = {key: None if "${" in str(value) else value for key, value in OmegaConf.to_container(file).items()}
    basic = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    runtime = {"choices": {"hydra/launcher": name, "hydra/sweeper": "basic"}}
    return OmegaConf.create({"hydra": {"launcher": {**values, **changes}, "sweeper": basic, "runtime": runtime}})


@pytest.mark.parametrize(
    ("name", "changes", "num_jobs", "expected"),
    [
        ("joblib", {"n_jobs": 4}, 12, 4),
        ("joblib", {"n_jobs": 4}, 3, 3),
        ("submitit_local", {}, 5, 5),
        ("submitit_slurm", {}, 5, 1),
        ("ray", {}, 5, 1),
    ],
)
def test_jobs_at_once_on_one_machine(name, changes, num_jobs, expected):
    assert jobs_at_once(launcher(name, **changes), num_jobs) == expected


def test_a_search_has_as_many_jobs_at_once_as_it_chooses():
    config = launcher("joblib", n_jobs=4)
    config.hydra.sweeper.n_jobs = 2
    assert jobs_at_once(config, 0) == 2


@pytest.mark.parametrize(("name", "extra"), [("joblib", "joblib"), ("submitit_slurm", "slurm"), ("ray", "ray")])
def test_a_missing_package_is_named_with_the_line_that_installs_its_extra(name, extra, monkeypatch):
    check_extras(launcher(name))
    monkeypatch.setattr("dreamer.sweep.plan.find_spec", lambda module: None)
    with pytest.raises(ValueError, match=rf'^hydra/launcher={name} needs .*pip install .*"\.\[{extra}\]"$'):
        check_extras(launcher(name))


@pytest.mark.parametrize(
    ("launcher_jobs", "trials", "key"), [(0, 1, "launcher"), (-2, 1, "launcher"), (2, -1, "sweeper")]
)
def test_numbers_of_jobs_with_which_nothing_would_end_are_refused(launcher_jobs, trials, key):
    config = launcher("joblib", n_jobs=launcher_jobs)
    config.hydra.sweeper.n_jobs = trials
    with pytest.raises(ValueError, match=rf"^hydra\.{key}\.n_jobs=.* must be at least 1"):
        check_counts(config)
    check_counts(launcher("joblib", n_jobs=-1))


def test_a_module_within_a_package_that_is_absent_is_absent():
    assert is_there("json.decoder") and not is_there("hydra_plugins.nobody_wrote_this") and not is_there("nobody.this")


def test_two_jobs_in_one_directory_are_refused(tmp_path):
    one, other = Planned(0, tmp_path / "x", ["seed=0"]), Planned(1, tmp_path / "x", ["seed=1"])
    check_shared([one, other._replace(directory=tmp_path / "y")])
    with pytest.raises(ValueError, match=r"^jobs 0 \(seed=0\) and 1 \(seed=1\) would share the run_dir "):
        check_shared([one, other])


@pytest.fixture
def refused(tmp_path: Path):
    """The error line of `python train.py <words>`, which must leave nothing behind."""

    def refused(*words: str) -> str:
        command = [sys.executable, str(CONF.parent / "train.py"), *words]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert result.returncode == 2 and "Traceback" not in result.stderr and not list(tmp_path.glob("*/*/*"))
        return result.stderr

    return refused


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("-m seed=0,1 hydra/launcher=slurm", "error: unknown hydra/launcher 'slurm'; nearest: submitit_slurm.\n"),
        ("-m seed=0,1 launcher=joblib", "error: unknown key 'launcher'; nearest: hydra/launcher.\n"),
        (
            "hydra/launcher=joblib",
            "error: hydra/launcher=joblib means nothing for a single run; add -m and values to sweep over.\n",
        ),
        (
            "-m seed=0,1 run_dir=sweep hydra.sweep.subdir=same",
            "error: jobs 0 (seed=0) and 1 (seed=1) would share the run_dir ",
        ),
        (
            "-m model.optim.lr=interval(1e-5,1e-4)",
            "error: interval(...) is for a search, which chooses values in it: add hparams_search=optuna.\n",
        ),
        (
            "-m seed=0,1 hydra/launcher=joblib hydra.launcher.n_jobs=x",
            "error: hydra.launcher.n_jobs=x is of another kind",
        ),
        ("-m seed=0,1 hydra/launcher=joblib hydra.launcher.jobs=2", "error: unknown key 'hydra.launcher.jobs'; "),
        ("hparams_search=optun", "error: unknown hparams_search 'optun'; nearest: optuna.\n"),
        (
            "hparams_search=optuna hydra.callbacks.prune.pruner=Median",
            "error: hydra.callbacks.prune: pruner=Median must be one of HyperbandPruner, MedianPruner, ",
        ),
    ],
)
def test_wrong_words_for_a_sweep_are_refused_by_their_name(refused, words, line):
    assert refused(*words.split()).startswith(line)

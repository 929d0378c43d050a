"""Which runs are drawn together, and what they are called."""

from __future__ import annotations

from dreamer.report.groups import as_word, group
from dreamer.report.runs import read_runs


def test_seeds_are_one_experiment_and_a_sweep_is_named_by_what_differs(make_run, tmp_path):
    number = 0
    for rate in (1e-4, 4e-5):
        for seed in (0, 1):
            make_run(f"sweep/{number}", {"model.optim.lr": rate, "seed": seed})
            number += 1
    (task,) = group(read_runs([tmp_path / "sweep"])[0])
    assert [experiment.name for experiment in task.experiments] == ["lr=0.0001", "lr=4e-05"]
    assert [[e.label(run) for run in e.runs] for e in task.experiments] == [["seed 0", "seed 1"]] * 2


def test_what_differs_in_many_keys_or_only_in_its_place_is_named_by_its_directory(make_run, tmp_path):
    make_run("before/seed0")
    make_run("after/seed0")
    (task,) = group(read_runs([tmp_path / "before", tmp_path / "after"])[0])
    assert [experiment.name for experiment in task.experiments] == ["before", "after"]
    make_run("large/seed0", {"model.units": 256, "model.depth": 16, "batch_size": 16, "batch_length": 64})
    (task,) = group(read_runs([tmp_path])[0])
    assert sorted(experiment.name for experiment in task.experiments) == ["after", "before", "large"]


def test_tasks_and_kinds_of_observation_are_apart_and_runs_of_one_seed_are_told_by_directory(make_run, tmp_path):
    make_run("a")
    make_run("b", {"env.obs": "proprio"})
    make_run("c", {"env.name": "cheetah_run"})
    make_run("d", {"trainer.threads": 1})
    tasks = group(read_runs([tmp_path])[0])
    named = [(task.name, task.obs, len(task.runs)) for task in tasks]
    assert named == [("walker_walk", "vision", 2), ("walker_walk", "proprio", 1), ("cheetah_run", "vision", 1)]
    (experiment,) = tasks[0].experiments
    assert [experiment.label(run) for run in experiment.runs] == ["a", "d"], "both have seed 0"


def test_values_are_written_as_they_are_typed():
    values = [None, True, 0.0005, [1, 2], {"a": None}, "near", 10]
    assert list(map(as_word, values)) == ["null", "true", "0.0005", "[1,2]", "{a: null}", "near", "10"]

"""Which runs belong together: tasks, in each the experiments, in each of these the seeds; and what tells them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dreamer.config.compose import flat, to_dict
from dreamer.config.digest import MAY_CHANGE
from dreamer.report.curves import group_by_experiment
from dreamer.report.runs import Run

MOST_KEYS = 3  # of a name; where experiments differ in more, their directories name them


@dataclass
class Experiment:
    """Runs that differ in the seed alone."""

    name: str
    runs: list[Run]

    def label(self, run: Run) -> str:
        """`seed 2`, or where two runs have that, the name of the directory."""
        seeds = [other.config.seed for other in self.runs]
        return f"seed {run.config.seed}" if seeds.count(run.config.seed) == 1 else run.path.resolve().name


@dataclass
class Task:
    """All experiments of one task, seen in one way."""

    name: str
    obs: str
    experiments: list[Experiment]

    @property
    def runs(self) -> list[Run]:
        return [run for experiment in self.experiments for run in experiment.runs]


def group(runs: list[Run]) -> list[Task]:
    """Tasks in the order of their first runs; experiments are named by what differs between them."""
    tasks: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        tasks.setdefault((run.config.env.name, run.config.env.obs), []).append(run)
    return [Task(name, obs, experiments_of(some)) for (name, obs), some in tasks.items()]


def experiments_of(runs: list[Run]) -> list[Experiment]:
    """Runs of one task, each experiment called by the few keys in which it differs from the others, if they are few."""
    by_path = {run.path: run for run in runs}
    groups = group_by_experiment({path: run.config for path, run in by_path.items()})
    experiments = [Experiment(name, [by_path[path] for path in paths]) for name, paths in groups.items()]
    keys = differing_keys([experiment.runs[0] for experiment in experiments])
    names = [name_by(experiment.runs[0], keys) for experiment in experiments]
    if 0 < len(keys) <= MOST_KEYS and len(set(names)) == len(names):
        for experiment, name in zip(experiments, names, strict=True):
            experiment.name = name
    return experiments


def settings(run: Run) -> dict[str, Any]:
    """What makes a run the experiment that it is, the seed left out, by the keys as they are typed."""
    values = flat(to_dict(run.config))
    return {key: value for key, value in values.items() if key not in (*MAY_CHANGE, "seed")}


def differing_keys(runs: list[Run]) -> list[str]:
    """Keys of `settings` that do not have one value in all of these runs, in the order of the config."""
    every = [settings(run) for run in runs]
    keys = list(dict.fromkeys(key for values in every for key in values))
    return [key for key in keys if any(values.get(key) != every[0].get(key) for values in every)]


def name_by(run: Run, keys: list[str]) -> str:
    """`lr=1e-4, train_ratio=96`: the last word of each key, or all of it where two end alike."""
    values, ends = settings(run), [key.rpartition(".")[2] for key in keys]
    return ", ".join(
        f"{end if ends.count(end) == 1 else key}={as_word(values.get(key))}"
        for key, end in zip(keys, ends, strict=True)
    )


def as_word(value: Any) -> str:
    """A value as one types it after `key=`."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(as_word, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}: {as_word(part)}' for key, part in value.items())}}}"
    return repr(value) if isinstance(value, float) else str(value)

"""Pruning: a trial of a search whose training return is hopeless beside that of the others ends early.

One of Optuna's pruners decides. What it judges by are the returns.csv of the jobs, so it needs no database that all of
them share, any launcher will do, and a search that is started again knows what it knew.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from dreamer.cli import exit_with
from dreamer.config.bounds import bounded, check_bounds, whole
from dreamer.report.curves import Curve
from dreamer.sweep.state import begun_jobs, curve_of, read_record, return_of, word_of

MOST_SHOWN = 5  # returns of other trials in a line


@dataclass
class Pruning(Callback):
    """hydra.callbacks.prune. Hydra keeps it with the config; `every`: environment steps between two looks.

    pruner: class of optuna.pruners and its arguments. Steps there are environment steps too.
    """

    every: int | float = bounded(2e4, low=1, is_whole=True)
    pruner: str = "MedianPruner"
    kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.every = whole(self.every)

    def check(self) -> None:
        """ValueError, by the key as it is typed, for what no pruner can be made of."""
        try:
            check_bounds(self)
            self.make()
        except (ValueError, TypeError) as error:
            raise ValueError(f"hydra.callbacks.prune: {error}") from error

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            self.check()
        except ValueError as error:
            exit_with(str(error))

    def make(self) -> Any:
        """The pruner; Optuna takes a second to import, which only a search has to wait for."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        known = sorted(name for name in vars(optuna.pruners) if name.endswith("Pruner") and name != "BasePruner")
        if self.pruner not in known:
            raise ValueError(f"pruner={self.pruner} must be one of {', '.join(known)}.")
        return getattr(optuna.pruners, self.pruner)(**self.kwargs)


class Judge:
    """Asks the pruner about one trial, each time it has passed another `every` environment steps."""

    def __init__(self, pruning: Pruning, sweep_dir: Path, run_dir: Path, max_steps: int | float) -> None:
        self.pruning, self.sweep_dir, self.run_dir = pruning, sweep_dir, run_dir
        self.max_steps, self.seen = max_steps, 0

    def hopeless(self, env_step: int) -> str | None:
        """Why the trial should end now, or None."""
        every = int(self.pruning.every)
        if env_step // every <= self.seen or env_step >= self.max_steps:
            return None
        self.seen = env_step // every
        curve = curve_of(self.run_dir)
        own = means(curve, every, env_step) if curve is not None else {}
        if not own:
            return None
        return self.judge(own)

    def judge(self, own: dict[int, float]) -> str | None:
        """`own`: environment step -> mean return of the trial over the `every` steps before it."""
        import optuna

        study = optuna.create_study(direction="maximize", pruner=self.pruning.make())
        others: list[dict[int, float]] = []
        for path in begun_jobs(self.sweep_dir):
            if path.resolve() == self.run_dir.resolve():
                continue
            (word, _), curve = word_of(path, read_record(path)), curve_of(path)
            if word not in ("finished", "pruned") or curve is None:
                continue
            is_finished = word == "finished"
            seen = means(curve, int(self.pruning.every), int(curve.env_step[-1]))
            others += [seen] if is_finished else []
            add_trial(study, is_finished, return_of(curve), seen)
        trial = study.ask()
        for step, value in own.items():
            trial.report(value, step)
        if not trial.should_prune():
            return None
        step = max(own)
        there = sorted((seen[step] for seen in others if step in seen), reverse=True)
        shown = ", ".join(f"{value:.1f}" for value in there[:MOST_SHOWN]) + (", ..." if there[MOST_SHOWN:] else "")
        return (
            f"{self.pruning.pruner} ends this trial: its mean training return in the {int(self.pruning.every):,} "
            f"environment steps up to {step:,} is {own[step]:.1f}, the best so far {max(own.values()):.1f}; finished "
            f"trials had {shown or 'none'} there."
        )


def add_trial(study: Any, is_finished: bool, ret: float, seen: dict[int, float]) -> None:
    """Tells the study of a trial that has ended, finished or pruned."""
    import optuna

    state = optuna.trial.TrialState.COMPLETE if is_finished else optuna.trial.TrialState.PRUNED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of Optuna 2, where both were new
        study.add_trial(optuna.trial.create_trial(state=state, value=ret, intermediate_values=seen))


def means(curve: Curve, every: int, env_step: int) -> dict[int, float]:
    """step -> mean return of the episodes that ended in (step - every, step], for whole windows up to `env_step`.

    Windows without an episode are left out.
    """
    window = np.ceil(curve.env_step / every).astype(int)
    return {
        int(index) * every: float(curve.ret[window == index].mean())
        for index in np.unique(window)
        if 0 < index * every <= env_step
    }

"""Crash at every write: ends a short run at each of its calls to the file system, restarts it, and compares.

    python tests/reliability/crash_points.py configs=ram_one_free,disk_two_full modes=kill,half every=15 offset=3

tries=N takes every k-th point such that there are N. thin=1 leaves out what lies between the first, the middle and the
last of many writes in a row to one file. steps=N is a longer or shorter run.

Without words: every point of every config in every mode, which takes hours. It prints a line for each config and mode,
and one for each point that is not as it should be. The last lines are JSON, for the tests.

A run that was cut off and restarted must end with the rows, the counters, the weights and the replay of one that never
was, bit for bit, and must not have lost more updates than lie between two checkpoints.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import shim  # noqa: E402

SMALL = (
    "debug=tiny", "trainer.threads=1", "env=dummy_counter", "env.action_repeat=4", "batch_size=2", "batch_length=4",
    "model.imagination.horizon=2", "model.actor.layers=1", "model.critic.layers=1", "trainer.train_ratio=2",
    "trainer.collect_steps=20", "trainer.max_steps=280", "trainer.video_every=0", "trainer.eval_every=0",
    "trainer.log_every=100",
)  # fmt: skip
CONFIGS = {
    f"{storage}_{name}_{fill}": [
        *SMALL,
        f"replay.storage={storage}",
        f"env.num_envs={number}",
        f"replay.capacity={room}",
    ]
    for storage in ("ram", "disk")
    for name, number in (("one", 1), ("two", 2))
    for fill, room in (("free", 400), ("full", 30 * number))
}
"""Storage, environments, and whether the ring is overwritten between two checkpoints."""
LOGGERS = {"disk_two_full": "tensorboard", "ram_one_free": "tensorboard"}
EVALUATED = {"ram_two_full": ["trainer.eval_every=150", "env.obs=both"]}
OTHERS = {
    "ram_one_beside": [*CONFIGS["ram_one_full"], "trainer.overlap=true"],
    "disk_two_beside": [*CONFIGS["disk_two_full"], "trainer.overlap=true"],
    "ram_cartpole": [
        *SMALL, "env=cartpole_balance", "env.obs=proprio", "replay.storage=ram", "replay.capacity=60",
        "trainer.max_steps=560", "trainer.log_every=200",
    ],
}  # fmt: skip
"""For exact resume alone."""
MODES = ("kill", "half", "full", "again", "store", "stop")


def words_of(name: str) -> list[str]:
    """What stands on the command line of a config."""
    words = {**CONFIGS, **OTHERS}[name]
    return [*words, *EVALUATED.get(name, []), f"logger={LOGGERS.get(name, 'csv')}"]


class Trial:
    """A config: the run that was never cut off, and those that were, one for each point."""

    def __init__(self, name: str, words: list[str], place: Path) -> None:
        self.name, self.config, self.place = name, lives.composed(words), place
        place.mkdir(parents=True)
        life = self.live("whole", self.plan())
        assert life.code == 0, life.output
        lives.import_all(place)
        self.journal, self.updates = life.journal, life.update
        self.whole = lives.look(self.config, place / "whole", place)
        self.saves = sum(" rename" in line and "last.ckpt" in line for line in self.journal)
        assert self.saves > self.updates // self.plan().save_every, life.journal  # that many, and at the end

    @staticmethod
    def plan(mode: str | None = None, point: int = 0) -> Any:
        return lives.Plan(mode, point)

    def live(self, run: str, plan: Any) -> Any:
        return lives.live(self.config, self.place / run, self.place, plan)

    def points(self, mode: str, thin: bool) -> list[int]:
        """The numbers at which this mode can end a run."""
        if mode == "stop":
            return list(range(1, self.updates + 1))
        if mode == "store":
            if "disk" not in self.name:
                return []
            life = self.live("stores", self.plan("store", 10**9))
            shutil.rmtree(self.place / "stores")
            return list(range(1, int(life.output.rsplit("stores ", 1)[1]) + 1))
        calls = enumerate(self.journal, 1)
        points = []
        for _, stretch in itertools.groupby(calls, key=lambda call: call[1].split(" ", 1)[1]):
            numbers = [number for number, line in stretch if mode != "half" or line.split()[1] in shim.WRITES]
            if thin and len(numbers) > 3:
                numbers = [numbers[0], numbers[len(numbers) // 2], numbers[-1]]
            points += numbers
        return points

    def faults(self, mode: str, point: int) -> list[str]:
        """What is wrong with a run that was ended at this point, and restarted; [] if nothing is."""
        shutil.rmtree(self.place / "run", ignore_errors=True)
        wrong: list[str] = []
        if mode == "again":  # with rows to take back, and is killed doing so, or later
            self.live("run", self.plan("kill", self.late()))
            cut = self.live("run", self.plan("kill", point))
        else:
            cut = self.live("run", self.plan(mode, point))
        if cut.signal not in (0, 9):
            wrong.append(f"ended by signal {cut.signal}")
        if mode == "full":
            parts = [path.name for path in (self.place / "run").rglob("*") if path.suffix in (".part", ".tmp")]
            wrong += [f"half a file left: {name}" for name in parts]
        life = self.live("run", self.plan())
        if life.code:
            return [*wrong, f"restarted, it ended with {life.code}: {last_line(life.output)}"]
        lost = cut.update - life.started_at
        if lost > (0 if mode == "stop" else self.plan().save_every):
            wrong.append(f"lost {lost} updates")
        held = lives.look(self.config, self.place / "run", self.place)
        if differ := lives.differing(self.whole, held):
            wrong.append(f"{len(differ)} of {len(self.whole)} values differ: {', '.join(differ[:6])}")
            if "files" in differ:
                wrong.append(f"files: {held.get('files')}, expected {self.whole['files']}")
        return wrong

    def late(self) -> int:
        """The last point of the third checkpoint: what the second one needs has been overwritten by then."""
        renames = [point for point, line in enumerate(self.journal, 1) if " rename" in line and "last.ckpt" in line]
        return renames[2] - 1

    def place_of(self, mode: str, point: int) -> str:
        return self.journal[point - 1] if mode in ("kill", "half", "full") else f"{point} {mode}"


def last_line(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(it printed nothing)"


@dataclass(frozen=True)
class Choice:
    """Which points are tried, of which configs."""

    configs: str = ",".join(CONFIGS)
    modes: str = ",".join(MODES[:5])
    every: int = 1
    offset: int = 0
    tries: int = 0  # 0: as many as there are
    thin: int = 0
    steps: int = 0  # 0: as the configs say

    @classmethod
    def of(cls, words: list[str]) -> Choice:
        given = dict(word.split("=", 1) for word in words)
        types = {item.name: int if item.type == "int" else str for item in fields(cls)}
        if unknown := given.keys() - types.keys():
            raise SystemExit(f"unknown: {', '.join(unknown)}; expected {', '.join(types)}.")
        return cls(**{name: types[name](value) for name, value in given.items()})

    def pick(self, points: list[int]) -> tuple[list[int], int]:
        """Those of `points` that are tried, and the distance between them."""
        stride = max(self.every, len(points) // self.tries if self.tries else 1)
        return points[self.offset % stride :: stride][: self.tries or None], stride


def trials(choice: Choice, place: Path) -> Iterator[dict[str, Any]]:
    """What came of each config and mode."""
    for name in choice.configs.split(","):
        steps = [f"trainer.max_steps={choice.steps}"] if choice.steps else []
        trial = Trial(name, [*words_of(name), *steps], place / name)
        for mode in choice.modes.split(","):
            points = trial.points(mode, bool(choice.thin))
            chosen, stride = choice.pick(points)
            began, faults = time.monotonic(), []
            for point in chosen:
                if wrong := trial.faults(mode, point):
                    faults.append(f"{name} {mode} at {trial.place_of(mode, point)}: {'; '.join(wrong)}")
                    print(faults[-1], flush=True)
            counts = {"points": len(points), "tried": len(chosen), "stride": stride, "offset": choice.offset}
            size = {"seconds": round(time.monotonic() - began), "updates": trial.updates, "saves": trial.saves}
            yield {"config": name, "mode": mode, **counts, **size, "faults": faults}


def main(words: list[str]) -> int:
    choice = Choice.of(words)
    with tempfile.TemporaryDirectory() as place:
        results = []
        for result in trials(choice, Path(place)):
            results.append(result)
            shown = {key: value for key, value in result.items() if key != "faults"}
            print(f"{shown}, {len(result['faults'])} faults", flush=True)
    print(json.dumps(results))
    return int(any(result["faults"] for result in results))


if __name__ == "__main__":
    if "crash.so" not in os.environ.get("LD_PRELOAD", ""):
        with tempfile.TemporaryDirectory() as library:
            environ = {**os.environ, "LD_PRELOAD": str(shim.build(Path(library))), "OMP_NUM_THREADS": "1"}
            sys.exit(subprocess.run([sys.executable, *sys.argv], env=environ).returncode)
    import lives

    sys.exit(main(sys.argv[1:]))

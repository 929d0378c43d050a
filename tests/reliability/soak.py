"""Soak: a run from pixels that is killed again and again for hours, while what it holds is measured.

    python tests/reliability/soak.py hours=6 minutes_between_kills=10 directory=runs/soak

Two environments in processes of their own, evaluations, SIGKILL and SIGTERM in turn; after each the same command again.
Every `seconds_between_samples` a row goes to <directory>/soak.csv; the run lies in
<directory>/run. At the end: what grew, and what went wrong at a kill.
Words that are not known here go to train.py. Status 1 where the verdict is not that all is flat.
"""

from __future__ import annotations

import contextlib
import csv
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
RUN = (
    "debug=tiny", "env=cartpole_balance", "env.workers=process", "env.num_envs=2", "trainer.max_steps=1e9",
    "trainer.eval_every=4000", "trainer.eval_episodes=1", "trainer.eval_length=200", "trainer.video_every=20000",
    "trainer.checkpoint_minutes=1", "trainer.threads=1", "trainer.compile=off",
    "replay.capacity=2000",
)  # fmt: skip
HELD = {"rss_mb": 2.0, "files": 0.5, "threads": 0.5, "maps": 1.0, "processes": 0.0, "replay_mb": 1.0, "saved_mb": 2.0}
"""What must be flat, and by how many percent of its mean an hour it may still rise: allocators keep what they had."""
SECONDS_TO_STOP = 60.0  # after SIGTERM, and for processes whose parent was killed


@dataclass
class Options:
    hours: float = 6.0
    minutes_between_kills: float = 10.0
    seconds_between_samples: float = 60.0
    hours_at_the_end: float = 1.0  # without a kill, since a slow leak does not show in minutes
    warm_up_minutes: float = 3.0  # of every session, which are not measured: the first evaluation builds an environment
    directory: str = "runs/soak"


class Soak:
    """The sessions of one run, one after the other."""

    def __init__(self, options: Options, words: list[str]) -> None:
        self.options, self.directory = options, Path(options.directory)
        self.run_dir = self.directory / "run"
        self.command = [
            sys.executable,
            "-u",
            str(ROOT / "train.py"),
            *RUN,
            *words,
            f"run_dir={self.run_dir.absolute()}",
        ]
        self.samples: list[dict[str, float]] = []
        self.faults: list[str] = []
        self.session = 0
        self.failed_starts = 0  # in a row
        self.reached = 0  # the environment step of the newest session's start
        self.began = time.monotonic()

    def run(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        while self.failed_starts < 3 and (left := self.options.hours * 3600 - (time.monotonic() - self.began)) > 0:
            self.session += 1
            output = self.directory / "output.txt"
            with output.open("w") as file:
                process = subprocess.Popen(self.command, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT)
            whole = 3600 * self.options.hours_at_the_end
            seconds = left if left <= whole else min(left - whole, 60 * self.options.minutes_between_kills)
            try:
                self.live(process, output, seconds)
            finally:
                process.kill()  # it is at its end, unless this script was interrupted

    def live(self, process: subprocess.Popen[bytes], output: Path, seconds: float) -> None:
        """A session that was started: watched, and ended by the signal whose turn it is."""
        number = signal.SIGKILL if self.session % 2 else signal.SIGTERM
        while process.poll() is None and not output.stat().st_size:  # its minutes count once it has begun
            time.sleep(0.1)
        end = time.monotonic() + seconds
        while time.monotonic() < end and process.poll() is None:
            time.sleep(max(0.0, min(self.options.seconds_between_samples, end - time.monotonic())))
            self.sample(process.pid, time.monotonic() - end + seconds)
        family = family_of(process.pid)
        if process.poll() is not None:
            self.fault(f"ended by itself with {process.returncode}: {output.read_text()[-500:]}")
            self.failed_starts += 1
            return
        self.failed_starts = 0
        process.send_signal(number)
        told = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_STOP)
        _, alive = psutil.wait_procs(family[1:], SECONDS_TO_STOP)
        alive += [family[0]] if process.poll() is None else []
        took = time.monotonic() - told
        if alive:
            self.fault(f"{len(alive)} processes live {took:.0f} s after {number.name}")
            for left in alive:
                left.kill()
            process.wait()
        expected = -number if number == signal.SIGKILL else 128 + number
        if not alive and process.returncode != expected:
            self.fault(f"{number.name} ended it with {process.returncode}, expected {expected}")
        self.check_start(output.read_text())
        print(f"session {self.session}: {number.name} after {seconds:.0f} s, ended in {took:.1f} s", flush=True)

    def check_start(self, output: str) -> None:
        """A session goes on where the one before was saved: never further back than that one began."""
        starts = re.findall(r"^resume .* at environment step ([\d,]+)", output, re.MULTILINE)
        step = int(starts[-1].replace(",", "")) if starts else 0
        if step < self.reached:
            self.fault(f"it went on from environment step {step}, and once from {self.reached}")
        self.reached = step

    def fault(self, line: str) -> None:
        self.faults.append(f"session {self.session}: {line}")
        print(self.faults[-1], flush=True)

    def sample(self, pid: int, age: float) -> None:
        """A row of the table. Processes that end while they are looked at are left out of it."""
        now = {"seconds": time.monotonic() - self.began, "session": float(self.session), "age": age}
        totals = dict.fromkeys(("rss_mb", "files", "threads", "maps", "processes"), 0.0)
        for process in family_of(pid):
            try:
                with process.oneshot():
                    held = {
                        "rss_mb": process.memory_info().rss / 1e6, "files": process.num_fds(), "processes": 1,
                        "threads": process.num_threads(), "maps": num_maps(process.pid),
                    }  # fmt: skip
            except (psutil.Error, OSError):
                continue
            totals = {name: total + held[name] for name, total in totals.items()}
        row = {**now, **totals, **self.disk()}
        self.samples.append(row)
        path = self.directory / "soak.csv"
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if is_new:
                writer.writeheader()
            writer.writerow({name: round(value, 2) for name, value in row.items()})

    def disk(self) -> dict[str, float]:
        """Megabytes below run_dir: replay, checkpoints, and the rest, which is logs and films and may grow."""
        sums = {"replay_mb": 0.0, "saved_mb": 0.0, "logs_mb": 0.0}
        for path in self.run_dir.rglob("*"):
            part = path.relative_to(self.run_dir).parts[0]
            name = {"replay": "replay_mb", "checkpoints": "saved_mb"}.get(part, "logs_mb")
            try:
                sums[name] += path.stat().st_size / 1e6 if path.is_file() else 0.0
            except FileNotFoundError:  # replaced or taken away just now
                continue
        return sums


def num_maps(pid: int) -> int:
    """Stretches of memory that are mapped; a graphics context that is not given back leaves some."""
    return Path(f"/proc/{pid}/maps").read_text().count("\n")


def family_of(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def trend(samples: list[dict[str, float]], name: str) -> tuple[float, float, float]:
    """Mean, slope an hour within sessions, and the standard error of that slope.

    Every session has a level of its own: only how a value moves inside of sessions counts.
    """
    hours, values = [], []
    for session in {row["session"] for row in samples}:
        rows = [row for row in samples if row["session"] == session]
        times, held = np.array([row["age"] / 3600 for row in rows]), np.array([row[name] for row in rows])
        hours.append(times - times.mean())
        values.append(held - held.mean())
    x, y = np.concatenate(hours), np.concatenate(values)
    mean = float(np.mean([row[name] for row in samples]))
    if len(x) < 4 or not (x**2).sum():
        return mean, float("nan"), float("nan")
    slope = float((x * y).sum() / (x**2).sum())
    free = max(1, len(x) - len(hours) - 1)
    return mean, slope, float(np.sqrt(((y - slope * x) ** 2).sum() / free / (x**2).sum()))


def across(samples: list[dict[str, float]], name: str) -> tuple[float, float, float]:
    """The same from session to session: slope an hour through the means of the sessions."""
    means = [
        {"session": 0.0, "age": np.mean([r["seconds"] for r in rows]), name: np.mean([r[name] for r in rows])}
        for session in sorted({row["session"] for row in samples})
        if (rows := [row for row in samples if row["session"] == session])
    ]
    return trend(means, name)


def verdict(samples: list[dict[str, float]], warm_up: float) -> list[str]:
    """A line for each quantity; those that grew end in GROWS."""
    warm = [row for row in samples if row["age"] >= warm_up]
    if not warm:
        return ["no sample after the warm-up: nothing can be said; GROWS"]
    lines = []
    for name, percent in HELD.items():
        for kind, measure in (("within", trend), ("across", across)):
            mean, slope, error = measure(warm, name)
            limit = mean * percent / 100
            grows = slope - 2 * error > limit
            word = "GROWS" if grows else "flat" if slope + 2 * error < max(limit, 1e-9) else "no rise seen"
            lines.append(f"{name} {kind} sessions: mean {mean:.1f}, {slope:+.2f} +- {2 * error:.2f} an hour; {word}")
    first, last = warm[0], warm[-1]
    rate = (last["logs_mb"] - first["logs_mb"]) / max(last["seconds"] - first["seconds"], 1e-9) * 3600
    return [*lines, f"logs and films: {last['logs_mb']:.1f} MB, {rate:+.1f} an hour, as they should"]


def main(words: list[str]) -> int:
    known = {name: word.split("=", 1)[1] for word in words if (name := word.split("=", 1)[0]) in vars(Options())}
    options = Options(**{name: value if name == "directory" else float(value) for name, value in known.items()})
    soak = Soak(options, [word for word in words if word.split("=", 1)[0] not in known])
    soak.run()
    lines = verdict(soak.samples, options.warm_up_minutes * 60)
    print(*lines, f"{soak.session} sessions, {len(soak.samples)} samples, {len(soak.faults)} faults", sep="\n")
    return int(bool(soak.faults) or any(line.endswith("GROWS") for line in lines))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The other ranks of a machine, where nobody but the first process starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from dreamer.config.schema import PARENT, TrainerConfig

LOOK = 0.25  # seconds between two looks
PATIENCE = 20.0  # seconds that a process may take to end by itself


class Children:
    """Processes of the same command, one for each further device; they end with this one, however it ends.

    Lightning's own launcher gives its processes the words of the whole command, so in a sweep each would begin the
    sweep anew; ours get those of the job.
    """

    def __init__(self, config: TrainerConfig, environment: ClusterEnvironment, words: list[str] | None) -> None:
        script = Path(sys.argv[0]).absolute()
        if words is None or not script.is_file():
            raise ValueError(
                f"trainer.devices={config.devices} starts the other processes from train.py; start all of them by "
                "torchrun or srun instead (docs/scaling.md)."
            )
        self.is_over = False
        self.variables = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(config.world_size),
        }
        self.variables = {name: value for name, value in self.variables.items() if name not in os.environ}
        os.environ.update(self.variables)
        self.first = environment.node_rank() * config.devices
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(script), *words, "hydra.mode=RUN"],  # hparams_search sets another
                env={**os.environ, "LOCAL_RANK": str(local_rank), PARENT: str(os.getpid())},
                stdin=subprocess.DEVNULL,
            )
            for local_rank in range(1, config.devices)
        ]
        threading.Thread(target=self.watch, name="ranks", daemon=True).start()

    def watch(self) -> None:
        """End this process, in words, where one of them has ended and nobody notices for long: while this one waits for
        a GPU that waits for them, or for a machine that is not there."""
        while not self.is_over:
            if fallen := self.fallen():
                time.sleep(PATIENCE)
                if self.is_over:
                    return
                code, words = fallen[0]
                print(f"error: {words} and the run cannot go on.", file=sys.stderr, flush=True)
                self.kill()
                os._exit(code if 0 < code < 128 else 1)
            time.sleep(LOOK)

    def fallen(self) -> list[tuple[int, str]]:
        """Of each that has ended before its time, the status and words; the others run, or have come to the end."""
        return [
            (code, f"rank {self.first + number} {ending(code)}")
            for number, process in enumerate(self.processes, start=1)
            if (code := process.poll())
        ]

    def lost(self) -> str:
        """The words of `fallen`, which may come a moment after the others hear of it; nothing where there are none."""
        deadline = time.monotonic() + 4 * LOOK
        while time.monotonic() < deadline:
            if found := self.fallen():
                return ", ".join(words for _, words in found)
            time.sleep(LOOK / 4)
        return ""

    def end(self) -> None:
        """Wait for their end, and make it where it does not come."""
        self.is_over = True
        deadline = time.monotonic() + PATIENCE
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()

    def kill(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


def ending(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"


def end_with_parent() -> None:
    """In a process that `Children` has started: end, should the one that started it be gone for long."""
    word = os.environ.get(PARENT, "")
    if word:
        threading.Thread(target=_watch_parent, args=(int(word),), name="parent", daemon=True).start()


def _watch_parent(number: int) -> None:
    while psutil.pid_exists(number) and os.getppid() == number:
        time.sleep(4 * LOOK)
    time.sleep(PATIENCE)  # what waits for the other rank hears of its end, and says so
    os._exit(1)

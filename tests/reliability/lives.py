"""One life of a run in a forked process: started as on the command line, cut off where a plan says, looked at after."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import mmap
import os
import re
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf
from shim import Shim

import train
from dreamer.cli import run
from dreamer.config.compose import parse
from dreamer.config.schema import Config
from dreamer.saved.checkpoint_file import read_checkpoint
from dreamer.training import callbacks
from dreamer.training.run import prepare

CONF = Path(__file__).parents[2] / "conf"
SECONDS = 120.0  # after which a life that has not ended is held to hang


@dataclass(frozen=True)
class Plan:
    """Where a life ends. mode: None for a whole one; those of shim.py; `store`: at the n-th store into a memory-mapped
    array; `stop`: a signal during update n."""

    mode: str | None = None
    point: int = 0
    save_every: int = 4  # updates between two checkpoints


class Life:
    """What is known of a process that has ended: its status, what it printed, and how far it was."""

    def __init__(self, status: int, output: str, journal: list[str], update: int) -> None:
        self.status, self.output, self.journal, self.update = status, output, journal, update

    @property
    def signal(self) -> int:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0

    @property
    def code(self) -> int:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else 128 + self.signal

    @property
    def started_at(self) -> int:
        """The update that it went on from, as it says itself; 0 where it began anew."""
        lines = [line for line in self.output.splitlines() if line.startswith("resume ")]
        return int(lines[-1].rsplit("update ", 1)[1].replace(",", "")) if lines else 0


class Stores(np.memmap):
    """A memory-mapped array that ends the process at a store into it, into a view of it or into a copy."""

    left = 0

    def __setitem__(self, key: Any, value: Any) -> None:
        Stores.left -= 1
        if Stores.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        super().__setitem__(key, value)


def as_array(values: Any, *args: Any, **kwargs: Any) -> np.ndarray:
    """numpy.asarray, which would turn Stores into an array that does not count."""
    return values if isinstance(values, Stores) and not args and not kwargs else AS_ARRAY(values, *args, **kwargs)


AS_ARRAY = np.asarray
PROGRESS = mmap.mmap(-1, 8) if sys.platform == "linux" else None  # shared with the forked: updates done


def composed(words: list[str]) -> Config:
    """What train.py makes of these words: once, since every life would spend a third of its time on it."""
    with initialize_config_dir(str(CONF), version_base=None):
        cfg = compose("config", overrides=[*words, "run_dir=."], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return parse(OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"]))


def live(config: Config, run_dir: Path, notes: Path, plan: Plan) -> Life:
    """train.py with this config and run_dir until it ends by itself or as planned."""
    assert PROGRESS is not None
    PROGRESS[:] = struct.pack("q", 0)
    journal = notes / "journal"
    status = forked(lambda: act(replace(config, run_dir=str(run_dir)), journal, plan), notes / "output")
    calls = journal.read_text().splitlines() if journal.exists() else []
    return Life(status, (notes / "output").read_text(errors="replace"), calls, struct.unpack("q", PROGRESS[:])[0])


def forked(task: Callable[[], int], output: Path) -> int:
    """The status of a forked process that does `task`, with all that it prints in a file."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        code = 70
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            os.dup2(file, 2)
            code = task()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    deadline = time.monotonic() + SECONDS
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGALRM)  # no other part of this sends it
            return os.waitpid(pid, 0)[1]
        time.sleep(0.005)


def import_all(notes: Path) -> None:
    """What a life imports as it goes is imported here, once, for those that are forked later."""
    for name in (notes / "modules").read_text().splitlines():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def act(config: Config, journal: Path, plan: Plan) -> int:
    """The life itself, in the forked process."""
    follow(plan)
    if plan.mode == "store":
        Stores.left = plan.point
        np.memmap, np.asarray = Stores, as_array
    file = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    calls = plan.mode if plan.mode in ("kill", "half", "full") else "count"
    Shim().arm(Path(config.run_dir), plan.point, calls, file)
    train.job_config, train.parse = (lambda cfg: cfg), (lambda cfg: config)
    run(lambda: train.main.__wrapped__(None))
    Shim().disarm()
    if plan.mode == "store":
        print(f"stores {plan.point - Stores.left}")
    journal.with_name("modules").write_text("\n".join(sys.modules))
    return 0


def follow(plan: Plan) -> None:
    """Checkpoints come every so many updates instead of minutes; updates are told to the parent; the signal is sent."""
    real = callbacks.Checkpoints.on_train_batch_end

    def on_train_batch_end(self: Any, trainer: Any, *args: Any) -> None:
        update = trainer.global_step
        PROGRESS[:] = struct.pack("q", update)  # pyright: ignore[reportOptionalSubscript]
        if plan.mode == "stop" and update == plan.point:
            os.kill(os.getpid(), signal.SIGTERM)
        self.saved_at = float("-inf") if update % plan.save_every == 0 else float("inf")
        real(self, trainer, *args)

    callbacks.Checkpoints.on_train_batch_end = on_train_batch_end


def look(config: Config, run_dir: Path, notes: Path) -> dict[str, str]:
    """Everything that a finished run holds, as its files tell it to another process: name -> digest, or the value."""
    found = notes / "found.json"
    status = forked(lambda: tell(replace(config, run_dir=str(run_dir)), found), notes / "look")
    assert status == 0, (notes / "look").read_text()
    return json.loads(found.read_text())


def tell(config: Config, found: Path) -> int:
    run_dir = Path(config.run_dir)
    state = read_checkpoint(run_dir / "checkpoints" / "last.ckpt")
    own = {key: state["dreamer"][key] for key in ("env_steps", "updates", "random", "dataset")}
    values = {"weights": state["state_dict"], "optimizer": state["optimizer_states"], **own}
    replay = prepare(config).dataset.replay
    values["replay"] = {key: torch.from_numpy(replay.column(key)) for key in replay.columns}
    held = dict(digests(values))
    returns = run_dir / "returns.csv"
    lines = returns.read_text().splitlines() if returns.exists() else []  # a short run ends no episode
    held["returns.csv"] = " ".join("{0}:{2}:{3}".format(*line.split(",")) for line in lines)
    kept = {re.sub(r"\d+", "#", str(path.relative_to(run_dir))) for path in run_dir.rglob("*") if is_kept(path)}
    held["files"] = " ".join(sorted(kept))
    found.write_text(json.dumps(held))
    return 0


def is_kept(path: Path) -> bool:
    """Files that every life leaves alike: of logs there is one for each, an older checkpoint may be missing, and so may
    what leads back to it, where nothing came after it."""
    return path.is_file() and "csv" not in path.parts and not path.name.startswith(("events.", "previous.", "undo."))


def digests(values: Any, name: str = "") -> list[tuple[str, str]]:
    """A nested state, flat. Left out: how often replay was saved, which differs where a save was cut off."""
    if isinstance(values, (dict, list, tuple)):
        entries = values.items() if isinstance(values, dict) else enumerate(values)
        return [entry for key, part in entries if key != "generation" for entry in digests(part, f"{name}/{key}")]
    if isinstance(values, torch.Tensor):
        data = values.detach().contiguous().numpy()
        return [(name, f"{data.dtype}{list(data.shape)} {hashlib.sha256(data.tobytes()).hexdigest()[:16]}")]
    return [(name, repr(values))]


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [key for key in sorted(one.keys() | other.keys()) if one.get(key) != other.get(key)]

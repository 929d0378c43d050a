"""Any damage to any file that a run leaves: it loads equal, or is refused by its name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from forms import fuzzed
from hypothesis import strategies as st
from rings import add, content, make, write_back
from short_runs import differing
from tiny import build_agent

from dreamer.config.compose import to_dict
from dreamer.config.digest import digest
from dreamer.config.file import CONFIG_FILE, format_config, read_config
from dreamer.report.curves import read_curve
from dreamer.saved import policy_file
from dreamer.saved.checkpoint_file import read_checkpoint
from dreamer.training.module import build_optimizer
from dreamer.training.saving.checkpoint_io import CheckpointFile
from dreamer.training.saving.returns_file import HEADER, RETURNS_FILE, Row, format_row, read_lines


class Damage(NamedTuple):
    """kind: of `damaged`; places and amount: fractions of the file."""

    kind: str
    place: float
    other: float
    amount: float
    bit: int


KINDS = ("flip", "flip", "flip", "cut", "zeros", "swap", "more", "empty", "foreign", "gone in the middle")
DAMAGE = st.builds(
    Damage, st.sampled_from(KINDS), st.floats(0, 1), st.floats(0, 1), st.floats(0, 0.2), st.integers(0, 7)
)


def damaged(data: bytes, damage: Damage, foreign: bytes) -> bytes:
    """What is left of a file."""
    size = len(data)
    at, other = (min(int(place * size), size - 1) for place in (damage.place, damage.other))
    length = max(1, int(damage.amount * size))
    if damage.kind == "flip":
        return data[:at] + bytes([data[at] ^ 1 << damage.bit]) + data[at + 1 :]
    if damage.kind == "cut":
        return data[:at]
    if damage.kind == "zeros":
        return data[:at] + bytes(len(data[at : at + length])) + data[at + length :]
    if damage.kind == "swap":
        first, second = sorted((at, other))
        length = min(length, second - first, size - second)
        middle = data[first + length : second]
        return (
            data[:first]
            + data[second : second + length]
            + middle
            + data[first : first + length]
            + data[second + length :]
        )
    if damage.kind == "more":
        return data + data[at : at + length]
    if damage.kind == "empty":
        return b""
    return foreign if damage.kind == "foreign" else data[:at] + data[at + length :]


class Whole:
    """Files as a run writes them, small ones, and what reading them gives."""

    def __init__(self, place: Path, config: Any) -> None:
        self.place, self.files = place, dict[str, bytes]()
        agent = build_agent()
        optimizer = build_optimizer(agent, agent.config)
        sum(p.square().sum() for p in agent.parameters()).backward()
        optimizer.step()
        header = {"config": to_dict(config), "digest": digest(config), "env_steps": 500, "updates": 1}
        counters = {"updates_due": 0, "schedule": {}, "collector": {}, "replay": {}}
        callbacks = {"RunLog": {"wall_seconds": 1.0}, "Evaluate": {"due": 0}, "OpenLoopVideo": {"due": 0}}
        self.state = {
            "state_dict": {f"agent.{key}": value for key, value in agent.state_dict().items()},
            "optimizer_states": [optimizer.state_dict()],
            "lr_schedulers": [],
            "global_step": 1,
            "loops": {"fit_loop": {}},
            "callbacks": callbacks,
            "dreamer": {**header, "random": {"cpu": torch.get_rng_state()}, "dataset": counters},
        }
        CheckpointFile().save_checkpoint(self.state, place / "last.ckpt")
        policy_file.write_policy(self.state, place / "policy.safetensors")
        (place / CONFIG_FILE).write_bytes(format_config(config))
        self.rows = [Row(500 * i, 60.5 * i, 1.25 * i, 500) for i in range(1, 30)]
        (place / RETURNS_FILE).write_text("".join([HEADER + "\n", *map(format_row, self.rows)]))
        self.config = config
        self.read = {name: read_checkpoint(place / name) for name in ("last.ckpt", "policy.safetensors")}
        for path in place.iterdir():
            self.files[path.name] = path.read_bytes()

    def damage(self, name: str, damage: Damage, directory: Path) -> bool:
        """Put the damaged file into `directory`; whether it differs from the whole one."""
        foreign = self.files[CONFIG_FILE if name != CONFIG_FILE else RETURNS_FILE]
        data = damaged(self.files[name], damage, foreign)
        (directory / name).write_bytes(data)
        return data != self.files[name]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny) -> Whole:
    return Whole(tmp_path_factory.mktemp("whole"), tiny("run_dir=runs/test", "env=dummy_counter"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged")


def refused(read: Callable[[], Any], name: str) -> Any:
    """What `read` gives, or None where it refuses by the name of the file."""
    try:
        return read()
    except ValueError as error:
        assert name in str(error), error
        return None


@fuzzed(60, st.sampled_from(["last.ckpt", "policy.safetensors"]), DAMAGE)
def test_agents_and_checkpoints_load_equal_or_are_refused(whole, directory, name, damage):
    differs = whole.damage(name, damage, directory)
    with redirect_stdout(StringIO()):
        state = refused(lambda: read_checkpoint(directory / name), name)
    assert (state is None) == differs or differing(state, whole.read[name]) == []


@fuzzed(60, DAMAGE)
def test_config_of_a_run_loads_equal_or_is_refused(whole, directory, damage):
    differs = whole.damage(CONFIG_FILE, damage, directory)
    config = refused(lambda: read_config(directory), CONFIG_FILE)
    assert (config is None) == differs or config == whole.config


@fuzzed(60, DAMAGE)
def test_returns_are_read_line_by_line_and_what_is_no_episode_is_named(whole, directory, damage):
    whole.damage(RETURNS_FILE, damage, directory)
    lines = read_lines(directory / RETURNS_FILE)
    assert all((line.row is None) != (line.fault is None) for line in lines)
    curve = refused(lambda: read_curve(directory), RETURNS_FILE)
    assert curve is None or (np.isfinite(curve.ret).all() and not any(line.fault for line in lines))


class Ring:
    """Two saves of a small replay, and its files as they are after these."""

    def __init__(self, directory: Path, storage: str) -> None:
        self.storage, self.directory = storage, directory
        replay, self.saves = make(directory, storage=storage), []
        for start in (0, 40):
            add(replay, start, start + 40)
            write_back(replay, 1, start + 30, 7)
            replay.save()
            self.saves.append((replay.state_dict(), content(replay)))
            write_back(replay, 0, start + 25, 8)
        add(replay, 80, 90)
        del replay
        self.files = sorted(path.name for path in directory.iterdir())


@pytest.fixture(scope="module")
def rings(tmp_path_factory) -> dict[str, Ring]:
    return {storage: Ring(tmp_path_factory.mktemp(storage), storage) for storage in ("ram", "disk")}


@fuzzed(60, st.sampled_from(["ram", "disk"]), st.integers(0, 1), st.integers(0, 30), DAMAGE)
def test_rows_of_replay_load_equal_or_are_never_drawn(rings, directory, storage, save, file, damage):
    ring, target = rings[storage], directory / "replay"
    name = ring.files[file % len(ring.files)]
    state, saved = ring.saves[save]
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ring.directory, target)
    data = (ring.directory / name).read_bytes()
    (target / name).write_bytes(damaged(data, damage, foreign=os.urandom(0) + b"env: {}\n"))
    restored, said = make(target, storage=storage), StringIO()
    with redirect_stdout(said):
        is_loaded = refused(lambda: restored.load_state_dict(state) or True, name)
    if not is_loaded:
        return
    got = content(restored)
    if got == saved:
        return
    assert name.partition(".")[0] == "undo" or "will not be drawn" in said.getvalue(), said.getvalue()
    if not restored.num_items:
        return
    rows, row_ids = restored.sample(2000)
    assert (rows["stream"] == row_ids[:, :1]).all() and (rows["t"] == row_ids[:, 1:] - 1 + np.arange(5)).all()
    if "undo" not in said.getvalue():  # a log that is lost leaves latents that are newer, and says so
        truth = {stream: np.array(saved[f"deter of {stream}"]) for stream in (0, 1)}
        first = [saved["oldest"][stream] for stream in (0, 1)]
        for stream, t, deter in zip(
            rows["stream"].ravel(), rows["t"].ravel(), rows["deter"].reshape(-1, 2), strict=True
        ):
            assert (truth[int(stream)][int(t) - first[int(stream)]] == deter).all()

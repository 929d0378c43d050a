"""A full disk ends a run in one line that says what is safe, and leaves the older checkpoint whole."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from short_runs import COUNTER, NO_EVALUATION, train

from dreamer.data.dataset import ReplayDataset
from dreamer.errors import RunStopped
from dreamer.saved import checkpoint_file
from dreamer.saved.checkpoint_file import read_checkpoint
from dreamer.training import callbacks
from dreamer.training.run import prepare
from dreamer.training.saving import disk, returns_file

WORDS = ("env=dummy_counter", "env.obs=both", NO_EVALUATION)
SAFE = "the checkpoint of environment step 480 stays"


def full(*arguments, **named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_a_file(state, file) -> None:
    file.write(b"0" * 1000)
    full()


@pytest.mark.parametrize(
    ("place", "name", "failing", "shown"),
    [
        pytest.param(checkpoint_file.torch, "save", half_a_file, "checkpoints/last.part", id="checkpoint"),
        pytest.param(disk.os, "fsync", full, "config.yaml", marks=pytest.mark.slow, id="config"),
        pytest.param(ReplayDataset, "state_dict", full, "replay", marks=pytest.mark.slow, id="replay"),
        pytest.param(returns_file, "format_row", full, "returns.csv", marks=pytest.mark.slow, id="returns"),
        pytest.param(callbacks, "write_gif", full, "videos/open_loop_image", marks=pytest.mark.slow, id="video"),
        pytest.param(
            TensorBoardLogger, "log_metrics", full, "the log of logger=tensorboard", marks=pytest.mark.slow, id="log"
        ),
    ],
)
def test_a_full_disk_is_one_line_and_the_checkpoint_before_stays(
    tiny, copied, monkeypatch, capsys, place, name, failing, shown
):
    training = prepare(tiny(f"run_dir={copied}", "trainer.max_steps=700", "trainer.video_every=80", *WORDS))
    capsys.readouterr()
    with monkeypatch.context() as patch, pytest.raises(RunStopped) as caught:
        patch.setattr(place, name, failing)
        training.fit()
    err, line = capsys.readouterr().err, str(caught.value)
    assert "the disk is full" in line and shown in line and SAFE in line and "are free" in line, line
    assert "Traceback" not in err
    path = copied / "checkpoints"
    assert sorted(os.listdir(path)) == ["last.ckpt", "previous.ckpt"] and not list(copied.rglob("*.part"))
    assert read_checkpoint(path / "last.ckpt")["dreamer"]["env_steps"] == 480
    train(tiny, copied, 700, "trainer.video_every=80", *WORDS)
    assert read_checkpoint(path / "last.ckpt")["dreamer"]["env_steps"] == 700


def test_a_checkpoint_without_room_is_not_begun(tiny, copied, monkeypatch):
    training = prepare(tiny(f"run_dir={copied}", "trainer.max_steps=560", *COUNTER, NO_EVALUATION))
    with monkeypatch.context() as patch, pytest.raises(RunStopped) as caught:
        usage = psutil.disk_usage(str(copied))
        patch.setattr(disk.psutil, "disk_usage", lambda path: usage._replace(free=1000))
        patch.setattr(ReplayDataset, "state_dict", lambda dataset: pytest.fail("the replay was saved all the same"))
        training.fit()
    assert "it needs 0.7 MB, and 0.0 MB are free" in str(caught.value) and SAFE in str(caught.value)


def test_other_errors_of_the_system_stay_as_they_are(tmp_path):
    with pytest.raises(FileNotFoundError), disk.writing(tmp_path / "file"):
        (tmp_path / "nowhere" / "file").write_text("")


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 12 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(path)]
    if not sys.platform.startswith("linux") or os.getuid() != 0:
        pytest.skip("only root may mount a small disk, and only Linux has tmpfs")
    mounted = subprocess.run(command, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"this machine lets nobody mount a small disk: {mounted.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.slow
def test_a_disk_that_is_really_full_ends_the_run_in_a_line(start, finish, wait_until, small_disk):
    path = small_disk / "run"
    words = (
        "env=dummy_counter", "env.obs=both", f"run_dir={path}", "trainer.compile=off", NO_EVALUATION,
        "trainer.checkpoint_minutes=0.005", "trainer.video_every=400",
    )  # fmt: skip
    process = start(*words, "trainer.max_steps=1e5")
    wait_until(process, lambda: (path / "checkpoints" / "previous.ckpt").exists())
    with suppress(OSError), (small_disk / "of somebody else").open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 4096)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, (out, err)
    assert err.startswith("error: the disk is full: ") and "Traceback" not in err and err.count("\n") == 1, err
    assert not list(path.rglob("*.part"))
    env_steps = read_checkpoint(path / "checkpoints" / "last.ckpt")["dreamer"]["env_steps"]
    assert f"the checkpoint of environment step {env_steps:,} stays" in err
    (small_disk / "of somebody else").unlink()
    status, out, err = finish(*words, f"trainer.max_steps={env_steps + 40}")
    assert status == 0 and f"at environment step {env_steps:,}, update" in out, err

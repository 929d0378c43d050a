"""A run keeps its last two checkpoints, and goes on from the newest sound one, whatever became of the other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from short_runs import COUNTER, NO_EVALUATION, differing, train

from dreamer.saved.agents import find
from dreamer.saved.checkpoint_file import read_checkpoint
from dreamer.training.run import prepare
from dreamer.training.saving import checkpoint

WORDS = (*COUNTER, NO_EVALUATION)


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def poison(path: Path) -> None:
    """What a version that did not look wrote of a run that had diverged."""
    state = torch.load(path, weights_only=True)
    next(iter(state["state_dict"].values())).view(-1)[0] = float("nan")
    torch.save(state, path)


def files(directory: Path) -> dict[str, bytes]:
    """Everything below a directory but the lock, which who looks has to take."""
    paths = [path for path in directory.rglob("*") if path.is_file() and not path.name.startswith(".lock")]
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def test_two_checkpoints_are_kept(finished):
    steps = {name: read_checkpoint(finished / "checkpoints" / name)["dreamer"]["env_steps"]
             for name in os.listdir(finished / "checkpoints")}  # fmt: skip
    assert steps == {"last.ckpt": 480, "previous.ckpt": 320}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        pytest.param(damage, "last.ckpt cannot be read; it is truncated, damaged or no checkpoint.", id="damaged"),
        pytest.param(poison, "holds values that are not finite.", marks=pytest.mark.slow, id="not_finite"),
        pytest.param(
            lambda path: torch.save({"dreamer": {}}, path),
            "is no whole one: it has no",
            marks=pytest.mark.slow,
            id="no_parts",
        ),
        pytest.param(Path.unlink, "run has no checkpoints/last.ckpt.", id="missing"),
    ],
)
def test_the_older_one_is_taken_where_the_newer_is_of_no_use(
    tiny, finished, copied, run_directory, capsys, spoil, reason
):
    path = copied / "checkpoints"
    spoil(path / "last.ckpt")
    spoilt = (path / "last.ckpt").read_bytes() if (path / "last.ckpt").exists() else None
    train(tiny, copied, 600, *WORDS)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if "previous.ckpt instead, of environment step 320." in line]
    assert len(lines) == 1 and reason in lines[0], out
    run = run_directory(copied)
    assert run.checkpoint["dreamer"]["env_steps"] == 600
    assert read_checkpoint(path / "previous.ckpt")["dreamer"]["env_steps"] == 320, "the sound one was kept"
    assert spoilt is None or (path / "last.ckpt.damaged").read_bytes() == spoilt
    assert [row["env_step"] for row in run.returns] == [80.0 * index for index in range(1, 8)]


def test_nothing_is_erased_where_both_are_damaged(tiny, copied):
    for name in ("last.ckpt", "previous.ckpt"):
        damage(copied / "checkpoints" / name)
    before = files(copied)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read.*previous\.ckpt cannot be .*Nothing was erased"):
        prepare(tiny(f"run_dir={copied}", *WORDS))
    assert files(copied) == before


@pytest.mark.parametrize("gone", [("last.ckpt", "previous.ckpt"), ("",)])
def test_a_run_that_lost_its_checkpoints_is_refused_and_keeps_the_rest(tiny, copied, gone):
    for name in gone:
        path = copied / "checkpoints" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = files(copied)
    assert "returns.csv" in before and any(name.startswith("replay") for name in before)
    with pytest.raises(ValueError, match=r"run_dir=.* has lost its checkpoints.*Nothing was erased"):
        prepare(tiny(f"run_dir={copied}", *WORDS))
    (copied / "config.yaml").unlink()
    with pytest.raises(ValueError, match="has lost its checkpoints"):
        prepare(tiny(f"run_dir={copied}", *WORDS))
    assert files(copied) == {name: data for name, data in before.items() if name != "config.yaml"}


def test_scripts_take_the_older_one_too(copied, capsys):
    assert find(str(copied))[0] == copied / "checkpoints" / "last.ckpt"
    assert capsys.readouterr().out == ""
    damage(copied / "checkpoints" / "last.ckpt")
    assert find(str(copied))[0] == copied / "checkpoints" / "previous.ckpt"
    assert "last.ckpt cannot be read" in capsys.readouterr().out
    damage(copied / "checkpoints" / "previous.ckpt")
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read.*previous\.ckpt cannot be read"):
        find(str(copied))[0]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.slow
@pytest.mark.parametrize("at", range(4))
def test_a_run_killed_between_any_two_steps_of_a_save_goes_on(
    tiny, finished, copied, run_directory, monkeypatch, capsys, at
):
    """The steps: to replace previous, to replace last, to wait for the directory, to tell replay."""
    left = [at]

    def counted(real):
        def step(*arguments):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*arguments)

        return step

    training = prepare(tiny(f"run_dir={copied}", "trainer.max_steps=600", *WORDS))
    with monkeypatch.context() as patch, pytest.raises(Killed):
        save = checkpoint.save_checkpoint

        def dying_save(*arguments):
            patch.setattr(checkpoint.os, "replace", counted(os.replace))
            patch.setattr(checkpoint, "sync", counted(checkpoint.sync))
            patch.setattr(training.dataset, "keep", counted(training.dataset.keep))
            return save(*arguments)

        patch.setattr("dreamer.training.callbacks.save_checkpoint", dying_save)
        training.fit()
    path = copied / "checkpoints"
    assert sorted(os.listdir(path)) == [
        ["last.ckpt", "last.part", "previous.ckpt"], ["last.part", "previous.ckpt"], ["last.ckpt", "previous.ckpt"],
        ["last.ckpt", "previous.ckpt"],
    ][at]  # fmt: skip
    capsys.readouterr()
    train(tiny, copied, 700, *WORDS)
    assert f"at environment step {[480, 480, 600, 600][at]}, update" in capsys.readouterr().out
    assert sorted(os.listdir(path)) == ["last.ckpt", "previous.ckpt"]
    run = run_directory(copied)
    assert run.checkpoint["dreamer"]["env_steps"] == 700
    assert [row["env_step"] for row in run.returns] == [80.0 * index for index in range(1, 9)]


def test_weights_that_are_not_finite_are_never_written(tiny, copied, monkeypatch):
    before = torch.load(copied / "checkpoints" / "last.ckpt", weights_only=True)
    training = prepare(tiny(f"run_dir={copied}", "trainer.max_steps=560", *WORDS))

    def spoil(*arguments) -> None:
        next(training.agent.parameters()).data.view(-1)[0] = float("nan")

    monkeypatch.setattr(
        "dreamer.training.display.run_log.RunLog.on_train_end", spoil
    )  # after the last loss was looked at
    with pytest.raises(FloatingPointError, match=r"state_dict\..* are not finite at update .*: the run has diverged"):
        training.fit()
    after = torch.load(copied / "checkpoints" / "last.ckpt", weights_only=True)
    assert differing(before, after) == [] and sorted(os.listdir(copied / "checkpoints")) == [
        "last.ckpt",
        "previous.ckpt",
    ]

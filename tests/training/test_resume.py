"""Stop and resume equals no stop, bit for bit; and what cannot be resumed is refused in words."""

from __future__ import annotations

import os
import signal
import sys
from unittest.mock import Mock

import pytest
import torch
from short_runs import COUNTER, differing, train

from dreamer.saved.checkpoint_file import read_checkpoint
from dreamer.training import callbacks
from dreamer.training.module import DreamerModule
from dreamer.training.run import check_overlap, prepare
from dreamer.training.saving.checkpoint import find_resume

CLASS = ("env=custom", "trainer.video_every=0")
STANDARDIZED = "model.standardize_vectors=true"
CARTPOLE = (
    "env=cartpole_balance", "env.obs=proprio", "trainer.collect_steps=200", "trainer.train_ratio=2",
    "trainer.eval_every=800", "trainer.video_every=0",
)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "stops"),
    [
        # Episodes of Counter take 80 environment steps, those of cartpole 1000: all but one stop lie inside an episode,
        # the first one before the first update.
        pytest.param((*COUNTER, "trainer.eval_every=300"), (280, 632, 800, 1200), marks=pytest.mark.slow, id="counter"),
        pytest.param(
            (*COUNTER, "replay.storage=disk", "replay.capacity=150"),
            (600, 1200),
            id="counter_on_disk",
            marks=pytest.mark.long,
        ),
        pytest.param(
            (*COUNTER, STANDARDIZED, "env.num_envs=3"), (700, 1100), id="three_counters", marks=pytest.mark.slow
        ),
        pytest.param(
            (*COUNTER, STANDARDIZED, "trainer.overlap=true"),
            (632, 900),
            id="counter_beside_updates",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            (*CARTPOLE, "trainer.overlap=true"), (1500, 2600), id="cartpole_beside_updates", marks=pytest.mark.long
        ),
        pytest.param(("env=dummy_recall", "trainer.video_every=0"), (500, 900), id="recall", marks=pytest.mark.slow),
        pytest.param(CARTPOLE, (1500, 2600), id="cartpole", marks=pytest.mark.slow),
        pytest.param(
            (*COUNTER, "explore=disagreement", "explore.steps=700"), (632, 900), id="curious", marks=pytest.mark.slow
        ),
        pytest.param((*COUNTER, "explore=noise", "explore.steps=700"), (632, 900), id="noisy", marks=pytest.mark.slow),
        # Other people's environments; the first stop of each lies inside an episode.
        pytest.param(
            (*CLASS, "env.class=robots.Arm"), (500, 900), id="cameras_and_vectors_of_gymnasium", marks=pytest.mark.slow
        ),
        pytest.param((*CLASS, "env.class=robots.Walker"), (500, 900), id="dm_env", marks=pytest.mark.slow),
        pytest.param(
            ("env=gymnasium", "env.id=CartPole-v1", "trainer.video_every=0"),
            (500, 900),
            id="registered",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("env=atari", "env.kwargs.length=300", "trainer.video_every=0"),
            (500, 900),
            id="atari",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ("env=crafter", "env.kwargs.length=70", "trainer.video_every=0"),
            (500, 900),
            id="crafter",
            marks=pytest.mark.long,
        ),
    ],
)
def test_stopped_and_resumed_run_equals_an_unbroken_one_bit_for_bit(tiny, tmp_path, run_directory, words, stops):
    for stop in stops:
        train(tiny, tmp_path / "broken", stop, *words)
    train(tiny, tmp_path / "whole", stops[-1], *words)
    broken, whole = run_directory(tmp_path / "broken"), run_directory(tmp_path / "whole")
    one, other = broken.checkpoint, whole.checkpoint
    assert one["global_step"] == other["global_step"] > 5
    for part in ("state_dict", "optimizer_states"):
        assert differing(one[part], other[part]) == []
    for part in ("random", "updates", "env_steps"):
        assert differing(one["dreamer"][part], other["dreamer"][part]) == []
    columns = ("env_step", "return", "length")
    assert [[row[key] for key in columns] for row in broken.returns] == [
        [row[key] for key in columns] for row in whole.returns
    ]
    steps = [event.step for event in broken.events.Scalars("episode/return")]
    assert steps == [row["env_step"] for row in whole.returns]


@pytest.mark.slow
def test_finished_run_started_again_says_so_and_changes_nothing(tiny, tmp_path, run_directory, capsys):
    words = (*COUNTER, "trainer.max_steps=500")
    train(tiny, tmp_path / "run", 500, *words)
    run = run_directory(tmp_path / "run")
    before, returns, first = run.checkpoint, run.returns, capsys.readouterr().out
    assert "Finished at environment step 500: " in first
    train(tiny, tmp_path / "run", 500, *words)
    assert "Finished at environment step 500: " in capsys.readouterr().out
    assert differing(run.checkpoint["state_dict"], before["state_dict"]) == []
    assert run.checkpoint["dreamer"]["updates"] == before["dreamer"]["updates"]
    assert run.returns == returns
    assert len(run.events.Scalars("eval/return_mean")) <= 1
    train(tiny, tmp_path / "run", 400, *words[:-1])  # and one that is beyond a max_steps that was lowered
    assert "Finished at environment step 500: " in capsys.readouterr().out
    train(tiny, tmp_path / "run", 600, *words[:-1])  # it can still be prolonged
    assert run.checkpoint["dreamer"]["env_steps"] == 600


@pytest.mark.slow
def test_last_evaluation_that_was_killed_is_made_up_for(tiny, tmp_path, run_directory, monkeypatch):
    words = (*COUNTER, "trainer.eval_every=1000")
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(callbacks, "evaluate", Mock(side_effect=MemoryError))
        train(tiny, tmp_path / "run", 600, *words)
    for _ in range(2):  # the second time there is nothing left to do
        train(tiny, tmp_path / "run", 600, *words)
    assert [event.step for event in run_directory(tmp_path / "run").events.Scalars("eval/return_mean")] == [600]


@pytest.mark.slow
def test_a_resumed_run_can_be_profiled(tiny, tmp_path):
    for stop, profile in ((400, "false"), (600, "true")):
        assert not (tmp_path / "run" / "trace.json").exists()
        train(tiny, tmp_path / "run", stop, *COUNTER, "trainer.eval_every=0", f"trainer.profile={profile}")
    assert (tmp_path / "run" / "trace.json").stat().st_size > 1000


@pytest.mark.slow
def test_diverged_run_ends_and_keeps_the_checkpoint_from_before(tiny, tmp_path, run_directory, monkeypatch):
    words = ("env=dummy_counter_discrete", "trainer.eval_every=0", "trainer.video_every=0")  # no action tells of it
    train(tiny, tmp_path / "run", 480, *words)
    run = tiny(f"run_dir={tmp_path / 'run'}", "trainer.max_steps=900", *words)
    training = prepare(run)
    real = DreamerModule.apply_update

    def spoil(module: DreamerModule) -> torch.Tensor:
        next(module.agent.parameters()).grad.fill_(float("nan"))
        return real(module)

    monkeypatch.setattr(DreamerModule, "apply_update", spoil)
    with pytest.raises(FloatingPointError, match=r"is nan at update \d+: the run has diverged"):
        training.fit()
    saved = run_directory(tmp_path / "run").checkpoint
    assert saved["dreamer"]["env_steps"] == 480
    assert all(value.isfinite().all() for value in saved["state_dict"].values())


def test_pictures_in_a_thread_are_refused_on_macos(tiny):
    words = ("env=dummy_counter", "env.obs=both", "trainer.overlap=true")
    with pytest.raises(ValueError, match=r"trainer\.overlap=true draws .* add env\.workers=process"):
        check_overlap(tiny(*words), "darwin")
    check_overlap(tiny(*words), "linux")
    check_overlap(tiny(*words, "env.workers=process"), "darwin")


@pytest.mark.slow
def test_resume_never_refuses_to_go_on(tiny, finished):
    with pytest.raises(ValueError, match=r"run_dir=.*run holds a run already and resume=never"):
        prepare(tiny(f"run_dir={finished}", *COUNTER, "resume=never"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("seed=1", "seed: 0 -> 1"),
        ("batch_size=5", "batch_size: 4 -> 5"),
        ("model.optim.lr=1e-4", r"model.optim.lr: 0.0005 -> 0.0001"),
        ("model.rssm.deter=128", "model.rssm.deter: 64 -> 128"),
        ("env=dummy_recall", "env.name: dummy_counter -> dummy_recall"),
    ],
)
def test_other_settings_are_refused_by_their_key(tiny, finished, word, shown):
    with pytest.raises(ValueError, match="was started with other settings") as caught:
        prepare(tiny(f"run_dir={finished}", *COUNTER, word))
    assert shown in str(caught.value) and str(finished) in str(caught.value)


@pytest.mark.slow
def test_a_resumed_run_says_where_it_goes_on_in_one_line(tiny, finished, capsys):
    prepare(tiny(f"run_dir={finished}", *COUNTER, "trainer.max_steps=1e4"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume")]
    assert len(lines) == 1 and "at environment step 480, update " in lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_truncated_checkpoint_is_refused(tiny, finished, tmp_path, kept):
    data = (finished / "checkpoints" / "last.ckpt").read_bytes()
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(
        ValueError, match=r"checkpoint=.*last\.ckpt cannot be read; it is truncated, damaged or no checkpoint"
    ):
        prepare(tiny(f"run_dir={tmp_path / 'run'}", *COUNTER))


def test_file_that_is_no_checkpoint_of_ours_is_refused(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="was not written by this project"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="does not exist"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.slow
def test_checkpoint_of_another_architecture_is_refused(tiny, finished, tmp_path):
    state = read_checkpoint(finished / "checkpoints" / "last.ckpt")
    key = next(key for key in state["state_dict"] if key.endswith("weight"))
    state["state_dict"][key] = state["state_dict"][key][:-1]
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    torch.save(state, file)
    with pytest.raises(ValueError, match=r"is of another architecture: .* there and .* here"):
        prepare(tiny(f"run_dir={tmp_path / 'run'}", *COUNTER))


@pytest.mark.slow
def test_checkpoint_without_its_replay_is_refused(tiny, finished, tmp_path):
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes((finished / "checkpoints" / "last.ckpt").read_bytes())
    with pytest.raises(ValueError, match="replay"):
        prepare(tiny(f"run_dir={tmp_path / 'run'}", *COUNTER))


def test_run_dir_that_is_a_file_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; give a directory"):
        prepare(tiny(f"run_dir={tmp_path / 'file'}", *COUNTER))


ENDLESS = (
    "env=dummy_counter", "trainer.max_steps=1e9", "trainer.eval_every=0", "trainer.video_every=0", "run_dir=run",
    "trainer.compile=off",  # minutes of compiling, which is not what these tests are about
)  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR2")
@pytest.mark.parametrize("leave", [SystemExit(-1), RuntimeError("timed-out too many times")])
def test_submitit_queues_a_job_again_once_it_is_saved(tiny, tmp_path, run_directory, monkeypatch, capfd, leave):
    run, seen = run_directory(tmp_path / "run"), []

    def queue_again(number, frame):
        seen.append((number, run.checkpoint["dreamer"]["env_steps"]))
        raise leave

    def warn(self, trainer, *arguments):
        if trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGUSR2)

    monkeypatch.setattr(callbacks.LatentWriteBack, "on_train_batch_end", warn)
    before = signal.signal(signal.SIGUSR2, queue_again)
    try:
        with pytest.raises(SystemExit) as ended:
            train(tiny, run.path, 400, *COUNTER)
        assert signal.getsignal(signal.SIGUSR2) is queue_again
    finally:
        signal.signal(signal.SIGUSR2, before)
    steps = run.checkpoint["dreamer"]["env_steps"]
    is_queued = isinstance(leave, SystemExit)
    assert (
        ended.value.code == (-1 if is_queued else 128 + signal.SIGUSR2)
        and 0 < steps < 400
        and seen == [(signal.SIGUSR2, steps)]
    )
    assert ("This job is not queued again: timed-out too many times" in capfd.readouterr().out) == (not is_queued)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process can answer")
def test_signals_save_and_end_a_run_that_then_goes_on(start, wait_until, tmp_path, run_directory):
    run, done = run_directory(tmp_path / "run"), 0.0
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = start(*ENDLESS)
        wait_until(process, lambda done=done: bool(run.returns) and run.returns[-1]["env_step"] > done + 600)
        process.send_signal(number)
        out, err = process.communicate(timeout=240)
        assert process.returncode == status, err
        assert f"{signal.Signals(number).name}: saving and stopping after this update" in out and "Traceback" not in err
        resumed = [line for line in out.splitlines() if line.startswith("resume ")]
        assert [f"at environment step {done:,.0f}, update" in line for line in resumed] == ([True] if done else [])
        done = float(run.checkpoint["dreamer"]["env_steps"])
        assert f"Stopped at environment step {done:,.0f}. To go on: the same command with run_dir=run" in out
    steps = [row["env_step"] for row in run.returns]
    assert steps == [80.0 * (index + 1) for index in range(len(steps))] and steps[-1] <= done


@pytest.mark.slow
def test_killed_run_goes_on_from_its_last_checkpoint(start, wait_until, tiny, tmp_path, run_directory):
    run, path = run_directory(tmp_path / "run"), tmp_path / "run"
    process = start(*ENDLESS, "trainer.checkpoint_minutes=0.005")
    wait_until(process, lambda: (path / "checkpoints" / "last.ckpt").exists())
    first = run.checkpoint["dreamer"]["env_steps"]
    wait_until(process, lambda: run.returns[-1]["env_step"] > first + 400)
    process.kill()
    process.communicate()
    saved = run.checkpoint["dreamer"]["env_steps"]
    train(tiny, path, saved + 400, *ENDLESS[:1], *ENDLESS[2:4])
    assert run.checkpoint["dreamer"]["env_steps"] == saved + 400
    steps = [row["env_step"] for row in run.returns]
    assert steps == [80.0 * (index + 1) for index in range(len(steps))] and steps[-1] > saved
    assert [event.step for event in run.events.Scalars("episode/return")] == steps


@pytest.mark.slow
def test_run_killed_before_its_first_checkpoint_starts_anew(start, wait_until, tiny, tmp_path, run_directory, capsys):
    run, path = run_directory(tmp_path / "run"), tmp_path / "run"
    process = start(*ENDLESS)
    wait_until(process, lambda: len(run.returns) > 12)
    process.kill()
    process.communicate()
    train(tiny, path, 480, *ENDLESS[:1], *ENDLESS[2:4])
    assert "holds a run without a checkpoint yet: starting it anew." in capsys.readouterr().out
    steps = [row["env_step"] for row in run.returns]
    assert steps == [80.0, 160.0, 240.0, 320.0, 400.0, 480.0]
    assert [event.step for event in run.events.Scalars("episode/return")] == steps


def test_run_directory_that_cannot_be_made_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    for run_dir in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match=r"run_dir=.*file.* (give a|is not a) directory"):
            find_resume(tiny(f"run_dir={run_dir}"))

"""Batches: their rows, their number, and that a resumed run yields what an unbroken one does."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor

from dreamer.types import Batch

Build = Callable[..., Any]


def train(run: Any, batches: Iterator[Batch]) -> Iterator[Batch]:
    """What a training loop does with batches: write back latents that came of them."""
    for batch in batches:
        deter = torch.stack([batch.obs["counter"][..., 0], batch.obs["action"].sum(-1) + 100], -1)
        run.dataset.write_back(batch.row_ids, deter, torch.full((*deter.shape[:2], 1), 3))
        yield batch


def same_batches(got: list[Batch], expected: list[Batch]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        one_flat, other_flat = {**one.obs, **one._asdict()}, {**other.obs, **other._asdict()}
        for key, value in one_flat.items():
            if isinstance(value, Tensor):
                assert torch.equal(value, other_flat[key]), key


@pytest.mark.parametrize("actions", ["continuous", "multi_discrete"])
def test_rows_context_and_previous_action_belong_together(build: Build, actions: str) -> None:
    run = build(actions=actions, num_envs=3, max_steps=2000)
    for batch in islice(run.dataset, 200):
        assert batch.reward.shape == (3, 5) and batch.reward.dtype == torch.float32
        index = batch.obs["counter"][..., 0]
        assert torch.equal(batch.reward, index)
        assert torch.equal(batch.is_first, index == 0)
        led_here = torch.where(batch.is_first[..., None], 0, batch.prev_action)
        assert torch.allclose(batch.obs["action"], led_here.float())
        assert batch.prev_action.dtype == (torch.float32 if actions == "continuous" else torch.int32)
        goes_on = ~batch.is_first[:, 0]
        assert torch.equal(batch.context_deter[goes_on, 0], index[goes_on, 0] - 1)
        assert torch.equal(batch.context_stoch[:, 0], batch.context_deter[:, 0].long() % 4)
        assert torch.equal(batch.is_last[:, :-1], batch.is_first[:, 1:])
        assert batch.obs["image"].dtype == torch.uint8 and batch.row_ids.dtype == torch.int64


def test_batches_begin_after_collect_steps_and_follow_the_train_ratio(build: Build) -> None:
    run = build(collect_steps=40, train_ratio=3.75, max_steps=1000)  # of 15 rows: an update in four policy steps
    policy_steps = [run.collector.policy_steps for _ in run.dataset]
    assert policy_steps[0] == 40
    for step in range(40, run.collector.policy_steps + 1, 2):
        assert sum(at <= step for at in policy_steps) == 1 + (step - 40) // 4
    assert 1000 <= run.collector.env_steps < 1000 + 4
    assert len(policy_steps) <= len(run.dataset)


def test_batches_wait_for_as_many_items_as_a_batch_takes(build: Build) -> None:
    run = build(num_envs=1, collect_steps=1, batch_size=4, length=6, train_ratio=20.0)
    next(iter(run.dataset))
    assert run.replay.num_items == 4 and run.collector.policy_steps == 9


def test_latents_written_back_between_two_batches_are_in_the_next(build: Build) -> None:
    run = build(num_envs=1, capacity=20, train_ratio=15.0, max_steps=300)
    batches = iter(run.dataset)
    batch = next(batches)
    for _ in range(30):
        run.dataset.write_back(batch.row_ids, torch.full((3, 5, 2), -7.0), torch.full((3, 5, 1), 2))
        written = {(stream, t + i) for stream, t in batch.row_ids.tolist() for i in range(5)}
        batch = next(batches)
        for (stream, t), deter in zip(batch.row_ids.tolist(), batch.context_deter, strict=True):
            assert (stream, t - 1) not in written or (deter == -7).all()


@pytest.mark.parametrize("storage", ["ram", "disk"])
@pytest.mark.parametrize("stop_after", [1, 10, 57])
def test_run_stopped_and_resumed_yields_what_an_unbroken_run_does(build: Build, storage: str, stop_after: int) -> None:
    settings = dict(train_ratio=33.0, max_steps=300, storage=storage, capacity=100)  # 2.2 updates a policy step
    unbroken = build(directory="unbroken", **settings)
    expected = list(train(unbroken, iter(unbroken.dataset)))
    stopped = build(**settings)
    got = list(islice(train(stopped, iter(stopped.dataset)), stop_after))
    file = io.BytesIO()
    torch.save(stopped.dataset.state_dict(), file)
    file.seek(0)
    resumed = build(**settings)
    resumed.dataset.load_state_dict(torch.load(file, weights_only=True))
    got += list(train(resumed, iter(resumed.dataset)))
    same_batches(got, expected)
    assert resumed.collector.env_steps == unbroken.collector.env_steps
    assert stopped.collector.drain_episodes() + resumed.collector.drain_episodes() != []


def test_run_killed_after_its_checkpoint_can_be_resumed(build: Build) -> None:
    run = build(storage="disk", capacity=60, max_steps=600)
    batches = train(run, iter(run.dataset))
    list(islice(batches, 20))
    state = run.dataset.state_dict()
    list(islice(batches, 10))  # lost with the process
    resumed = build(storage="disk", capacity=60, max_steps=600)
    resumed.dataset.load_state_dict(state)
    assert resumed.replay.num_rows == 60
    for batch in train(resumed, iter(resumed.dataset)):
        assert torch.equal(batch.reward, batch.obs["counter"][..., 0])
        assert torch.equal(batch.is_first, batch.reward == 0)
    assert resumed.collector.env_steps >= 600 and resumed.replay.num_rows == 60


def test_run_whose_replay_lost_its_rows_fills_it_before_the_updates_that_are_due(build: Build, tmp_path: Path) -> None:
    settings = dict(storage="disk", capacity=40, train_ratio=60.0, max_steps=600)  # eight updates a policy step
    run = build(**settings)
    batches = train(run, iter(run.dataset))
    list(islice(batches, 10))
    state = run.dataset.state_dict()
    assert state["updates_due"] == 7
    list(islice(batches, 250))  # over the whole ring; lost with the process
    for path in (tmp_path / "replay").glob("undo.*"):
        path.unlink()
    resumed = build(**settings)
    resumed.dataset.load_state_dict(state)
    assert resumed.replay.num_items == 0
    taken = resumed.collector.policy_steps
    batch = next(train(resumed, iter(resumed.dataset)))
    assert resumed.collector.policy_steps > taken and resumed.replay.num_items >= 3
    assert torch.equal(batch.reward, batch.obs["counter"][..., 0])


def test_keeping_a_checkpoint_forgets_what_those_before_it_need(build: Build, tmp_path: Path) -> None:
    run = build(storage="disk", capacity=40, max_steps=600)
    batches = train(run, iter(run.dataset))
    for _ in range(4):
        list(islice(batches, 10))
        generation = run.dataset.state_dict()["replay"]["generation"]
        run.dataset.keep(generation - 1)
        assert {path.name for path in (tmp_path / "replay").glob("undo.*")} <= {f"undo.{generation - 1}"}
    list(islice(batches, 1))
    assert (tmp_path / "replay" / "undo.4").exists()


def test_stop_ends_before_the_next_batch_and_keeps_what_is_due(build: Build) -> None:
    unbroken, run = build(directory="unbroken", train_ratio=60.0), build(train_ratio=60.0)  # four updates a policy step
    expected = list(islice(unbroken.dataset, 20))
    got = []
    for batch in run.dataset:
        got.append(batch)
        if len(got) == 7:
            run.dataset.stop()
    assert len(got) == 7
    same_batches(got + list(islice(run.dataset, 13)), expected)


def test_finished_run_that_is_resumed_yields_nothing(build: Build) -> None:
    run = build(max_steps=100)
    list(run.dataset)
    state, env_steps = run.dataset.state_dict(), run.collector.env_steps
    resumed = build(max_steps=100)
    resumed.dataset.load_state_dict(state)
    assert list(resumed.dataset) == [] and resumed.collector.env_steps == env_steps


class Recorder(lightning.LightningModule):
    """Notes how far collection was when each batch arrived."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self.run = run
        self.automatic_optimization = False
        self.policy_steps: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        assert isinstance(batch, Batch)
        self.policy_steps.append(self.run.collector.policy_steps)

    def configure_optimizers(self) -> None:
        return None


def test_lightning_fetches_no_batch_ahead_and_ends_with_the_dataset(build: Build) -> None:
    reference, run = build(directory="reference"), build()
    expected = [reference.collector.policy_steps for _ in reference.dataset]
    recorder = Recorder(run)
    trainer = lightning.Trainer(
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    trainer.fit(recorder, run.dataset)
    assert recorder.policy_steps == expected
    assert trainer.num_training_batches == len(run.dataset) > len(expected)

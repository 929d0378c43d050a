"""The whole path on small environments and once on the real one: what a run learns, logs and leaves behind."""

from __future__ import annotations

import io
import math
from itertools import pairwise

import numpy as np
import pytest
import yaml
from PIL import Image

from dreamer.config.compose import from_dict
from dreamer.envs.drawing.backend import probe_renderers
from dreamer.training.run import prepare

LOSSES = ("dyn", "rep", "reward", "cont", "actor", "critic", "replay_value", "total")
SCALARS = (
    "episode/return", "episode/length", "eval/return_mean", "eval/return_std", "actor/entropy", "critic/value",
    "return/scale", "grad/norm", "replay/size", "replay/ratio", "time/env_steps_per_second",
    "time/updates_per_second", "time/hours_left",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory, run_directory):
    """A run on a counter that is seen as pixels and numbers: its config, its first weights, its directory."""
    path = tmp_path_factory.mktemp("end_to_end") / "run"
    words = ("env=dummy_counter", "env.obs=both", "trainer.log_every=200", "model.standardize_vectors=true")
    config = tiny(f"run_dir={path}", *words)
    training = prepare(config)
    first = {name: value.clone() for name, value in training.agent.state_dict().items()}
    assert not path.exists(), "a run directory appears only once the run begins"
    training.fit()
    return config, first, run_directory(path)


@pytest.fixture(scope="module")
def events(trained):
    return trained[2].events


def test_every_parameter_moves_and_stays_finite(trained):
    _, first, run = trained
    weights = {name.removeprefix("agent."): value for name, value in run.checkpoint["state_dict"].items()}
    assert weights.keys() == first.keys()
    assert any("slow_critic" in name for name in weights)
    for name, value in weights.items():
        assert value.isfinite().all(), name
        assert not value.equal(first[name]), f"{name} did not change"


def test_vectors_are_standardized_by_the_rows_before_the_first_update(trained):
    config, _, run = trained
    weights = run.checkpoint["state_dict"]
    columns = [np.fromfile(run.path / "replay" / f"obs.{key}.bin", np.float32) for key in ("action", "counter")]
    rows = np.concatenate([column.reshape(config.replay.capacity, -1)[:80] for column in columns], 1)
    for part, expected in (("mean", rows.mean(0)), ("std", rows.std(0))):
        np.testing.assert_allclose(weights[f"agent.world_model.standardize.{part}"], expected, rtol=1e-5)


def test_all_losses_and_metrics_are_logged_and_finite(trained, events):
    keys = ("counter", "action", "image")
    of_the_model = ("dyn", "rep", "reward", "cont", *keys)
    tags = {*SCALARS, *(f"loss/{name}" for name in (*LOSSES, *keys)), *(f"eval_loss/{name}" for name in of_the_model)}
    assert tags <= set(events.Tags()["scalars"])
    for tag in events.Tags()["scalars"]:
        assert all(math.isfinite(event.value) for event in events.Scalars(tag)), tag


def test_the_axis_of_every_scalar_is_environment_steps(trained, events):
    config, _, run = trained
    assert config.env.action_repeat == 4 and config.trainer.max_steps == 1200
    for row, event in zip(run.returns, events.Scalars("episode/return"), strict=True):
        assert (row["env_step"], row["return"], row["length"]) == (event.step, event.value, 20)
    # Counter's episodes are 20 actions of 4 control steps; the first begins with the run. Their return is 1 + ... + 20.
    assert [row["env_step"] for row in run.returns] == list(range(80, 1201, 80))
    assert {row["return"] for row in run.returns} == {210.0}
    logged = [event.step for event in events.Scalars("loss/dyn")]
    assert logged[-1] == 1200 and all(0 < after - before <= 300 for before, after in pairwise(logged))
    assert [event.step for event in events.Scalars("eval/return_mean")] == [1200]
    assert [event.value for event in events.Scalars("eval/return_mean")] == [210.0]


def test_counters_agree_with_the_number_of_updates(trained, events):
    config, _, run = trained
    state = run.checkpoint["dreamer"]
    # 300 actions in 15 episodes are 315 rows. The first 80 come before the first update, then 8 trained rows for each.
    updates = 1 + (315 - 80) * 8 // (config.batch_size * config.batch_length)
    assert (state["env_steps"], state["updates"]) == (1200, updates)
    last = {tag: events.Scalars(tag)[-1].value for tag in ("train/updates", "replay/size", "replay/ratio")}
    assert (last["train/updates"], last["replay/size"]) == (updates, 315)
    assert len(state["dataset"]["collector"]["waiting"]) == 0
    assert last["replay/ratio"] == pytest.approx(updates * 64 / (315 - 80))


@pytest.mark.parametrize(("tag", "size"), [("open_loop/image", (4 * 16, 3 * 16)), ("eval/episode", (16, 16))])
def test_pictures_in_tensorboard_move(trained, events, tag, size):
    _, _, run = trained
    (event,) = [image for image in events.Images(tag) if image.step >= 800][:1]
    picture = Image.open(io.BytesIO(event.encoded_image_string))
    assert (picture.format, picture.size, (event.width, event.height)) == ("GIF", size, size)
    frames = []
    for index in range(picture.n_frames):
        picture.seek(index)
        frames.append(np.asarray(picture.convert("RGB")))
    assert len(frames) > 1 and any((frame != frames[0]).any() for frame in frames)
    file = run.path / "videos" / f"{tag.replace('/', '_')}_{event.step:09d}.gif"
    assert file.read_bytes() == event.encoded_image_string


def test_hyperparameters_stand_in_tensorboard(events):
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"model.optim.lr" in content and b"trainer.train_ratio" in content


def test_resolved_config_lies_beside_the_run(trained):
    config, _, run = trained
    assert from_dict(yaml.safe_load((run.path / "config.yaml").read_text())) == config


def test_returns_csv_has_its_columns_and_rising_wall_time(trained):
    _, _, run = trained
    assert (run.path / "returns.csv").read_text().splitlines()[0] == "env_step,wall_seconds,return,length"
    seconds = [row["wall_seconds"] for row in run.returns]
    assert seconds == sorted(seconds) and seconds[-1] > 0


@pytest.mark.slow
@pytest.mark.parametrize("env", ["dummy_counter_discrete", "dummy_counter_multi_discrete", "dummy_recall"])
def test_discrete_actions_and_several_environments_train(tiny, tmp_path, run_directory, env):
    words = ("env.obs=vision", "env.num_envs=2", "trainer.max_steps=1000", "trainer.eval_every=0")
    training = prepare(tiny(f"run_dir={tmp_path / 'run'}", f"env={env}", *words))
    first = {name: value.clone() for name, value in training.agent.state_dict().items()}
    training.fit()
    events = run_directory(tmp_path / "run").events
    assert all(math.isfinite(event.value) for event in events.Scalars("loss/total"))
    assert all(not value.equal(first[name]) for name, value in training.agent.state_dict().items())


@pytest.mark.slow
def test_two_cameras_of_an_own_class_are_predicted_and_its_episodes_filmed(tiny, tmp_path, run_directory):
    prepare(tiny(f"run_dir={tmp_path / 'run'}", "env=custom", "env.class=robots.Arm")).fit()
    events = run_directory(tmp_path / "run").events
    keys = ("cameras.left", "cameras.right", "pose", "time")
    for key in keys:
        assert all(math.isfinite(event.value) for event in events.Scalars(f"loss/{key}"))
    assert {"open_loop/cameras.left", "open_loop/cameras.right", "eval/episode"} == set(events.Tags()["images"])


def test_pictures_that_do_not_fit_the_networks_are_refused_once_their_size_is_known(tiny, tmp_path):
    words = ("env=custom", "env.class=robots.Arm", "model.encoder.mults=[1,1,1,1,1]")
    with pytest.raises(
        ValueError, match=r"^cameras.left of 80 x 80 pixels must be a multiple of 32, .* env.size=64 or 96"
    ):
        prepare(tiny(f"run_dir={tmp_path / 'run'}", *words))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_csv_logger_writes_the_same_numbers(tiny, tmp_path):
    prepare(tiny(f"run_dir={tmp_path / 'run'}", "env=dummy_counter", "logger=csv", "trainer.video_every=0")).fit()
    (file,) = (tmp_path / "run").rglob("metrics.csv")
    assert {"episode/return", "loss/dyn", "eval/return_mean"} <= set(file.read_text().splitlines()[0].split(","))


@pytest.mark.slow
def test_train_py_debug_tiny_trains_on_real_walker_pixels(finish, tmp_path, run_directory):
    probe = probe_renderers()
    if probe.backend is None:
        pytest.skip(f"no way to render here: {'; '.join(probe.failures)}")
    status, out, err = finish("run_dir=run", "env.action_repeat=2")
    assert status == 0, err
    assert "Finished at environment step 1,200: run" in out and "walker_walk, vision" in out
    assert "\n1,200 of 1,200 env steps (100.0%), 66 updates, last return " in out, "a pipe hears of the end"
    assert "\nevaluation at 1,200 env steps: " in out and " over 1 episode; the first is filmed in videos/" in out
    run = run_directory(tmp_path / "run")
    assert len(list(run.path.glob("events.*"))) == 1
    assert yaml.safe_load((run.path / "hparams.yaml").read_text())["model.optim.warmup"] == 10
    events = run.events
    assert {"open_loop/image", "eval/episode"} <= set(events.Tags()["images"])
    assert all(math.isfinite(event.value) for event in events.Scalars("loss/image"))
    assert run.checkpoint["dreamer"]["env_steps"] == 1200
    assert (run.path / "config.yaml").is_file()

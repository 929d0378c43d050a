"""Whatever is typed wrong is named as typed, with what was expected, before anything exists on disk."""

import pytest
from hydra.errors import HydraException

from dreamer.config.compose import from_dict, parse, to_dict
from dreamer.config.error_words import describe
from dreamer.config.schema import Config

OUT_OF_RANGE = {
    "trainer.max_steps=-1": "a whole number, at least 1",
    "trainer.max_steps=0": "a whole number, at least 1",
    "trainer.max_steps=1.5": "a whole number, at least 1",
    "trainer.max_steps=inf": "a whole number, at least 1",
    "trainer.train_ratio=0.0": "above 0",
    "trainer.collect_steps=-1": "at least 0",
    "trainer.log_every=0": "at least 1",
    "trainer.threads=-1": "at least 0",
    "trainer.eval_episodes=0": "at least 1",
    "batch_length=1": "at least 2",
    "batch_size=0": "at least 1",
    "seed=-1": "at least 0",
    "env.action_repeat=0": "at least 1",
    "env.num_envs=0": "at least 1",
    "env.size=70": "a multiple of 16",
    "env.size=0": "at least 1",
    "model.rssm.deter=500": "a multiple of model.rssm.blocks=8; try 496 or 504",
    "model.rssm.classes=1": "at least 2",
    "model.rssm.unimix=1.0": "below 1",
    "model.depth=3": "try model.depth=2 or 4",
    "model.encoder.kernel=4": "odd",
    "model.encoder.mults=[]": "one or more entries",
    "model.encoder.mults=[[2], 3]": "a list of plain values",
    "model.decoder.mults=[2, 0, 4]": "each at least 1",
    "model.reward.bins=254": "odd",
    "model.optim.lr=0.0": "above 0",
    "model.optim.lr=400000.0": "below 1",
    "model.optim.actor_lr=-0.1": "above 0",
    "model.actor.min_std=2.0": "at most model.actor.max_std=1.0",
    "model.return_norm.low=95.0": "below model.return_norm.high=95.0",
    "model.imagination.horizon=0": "at least 1",
    "model.encoder.kernel=1": "at least 3 with model.encoder.strided=true",
    "model.decoder.kernel=1": "at least 3 with model.decoder.strided=true",
    "model.decoder.every=3": "must divide batch_length=16",
    "model.imagination.last=17": "at most batch_length=16",
    "model.imagination.last=1": "0 (all rows) or at least 2",
    "replay.capacity=543": "at least 544",
    "env.obs=pixels": "vision, proprio, both or auto",
    "env.obs=auto": "vision or proprio or both with env.suite=dmc",
    "env.suite=dm": "dmc, dummy, gymnasium, atari, crafter or custom",
    "env.id=CartPole-v1": "means nothing with env.suite=dmc; it belongs to gymnasium",
    "env.import=my_env": "means nothing with env.suite=dmc; it belongs to gymnasium or custom",
    "env.leave_out=[speed,words]": "means nothing with env.suite=dmc; it belongs to gymnasium or custom",
    "model.actor.dist=tanhnormal": "normal or tanh_normal. Did you mean tanh_normal?",
    "model.actor.gradient=dynamic": "reinforce or dynamics. Did you mean dynamics?",
    "trainer.device=gpu": "auto, cpu, cuda or mps. Did you mean cuda?",
    "trainer.precision=bf16": "Did you mean bfloat16?",
    "replay.storage=memory": "auto, ram or disk",
    "resume=always": "auto or never",
    "logger.name=comet": "tensorboard, csv, wandb or mlflow",
}
NOT_COMPOSED = {
    "env=walker_wlk": "unknown env 'walker_wlk'; nearest: walker_walk, walker_run",
    "env=zzz": "unknown env 'zzz'; one of acrobot_swingup,",
    "model=size13m": "unknown model 'size13m'; nearest: size1",
    "experiment=paper": "unknown experiment 'paper'; one of atari100k, crafter, dmc_proprio",
    "modle.optim.lr=1e-4": "unknown key 'modle.optim.lr'; nearest: model.optim.lr",
    "trainer.max_step=10": "unknown key 'trainer.max_step'; nearest: trainer.max_steps.",
    "lr=1e-4": "unknown key 'lr'; nearest: model.optim.lr.",
    "expriment=dmc_vision": "unknown key 'expriment'; nearest: experiment.",
    "qqq=1": "unknown key 'qqq'; python train.py --cfg job prints all keys.",
    "trainer.max_steps=lots": "trainer.max_steps=lots must be a number, such as 1000 or 1e6.",
    "batch_size=1.5": "batch_size=1.5 must be a whole number, such as 16.",
    "batch_size=null": "batch_size=null must be a whole number, such as 16.",
    "model.optim.actor_lr=slow": "model.optim.actor_lr=slow must be a number, such as 4e-5, or null.",
    "model.encoder.strided=maybe": "model.encoder.strided=maybe must be true or false.",
    "model.encoder.mults=[1,x]": "model.encoder.mults=[1,x] must be a list of whole numbers, such as [2,3,4,4].",
    "env.size=big": "env.size=big must be a whole number, such as 64, or null.",
    "env.class=[1]": "env.class=[1] must be text, or null.",
    "env.kwargs=3": "env.kwargs=3 must be a mapping, such as {gravity: 5}.",
    "env.clas=my_env.Robot": "unknown key 'env.clas'; nearest: env.class.",
    "model.optim=3": "model.optim=3 replaces a group of keys; set one of them: model.optim.lr,",
    "batch_size": "cannot read 'batch_size': write key=value",
    "seed=0,1": "seed=0,1 holds several values: add -m for one run with each",
    "seed=range(0,3)": "seed=range(0,3) holds several values: add -m for one run with each",
}  # fmt: skip


@pytest.mark.parametrize(("typed", "expected"), OUT_OF_RANGE.items())
def test_value_out_of_range_is_refused_by_its_key(composed, typed, expected):
    with pytest.raises(ValueError) as caught:
        parse(composed(typed))
    message = str(caught.value)
    assert message.startswith(typed) and expected in message and "\n" not in message


def test_pictures_must_fit_the_squares_of_the_encoder(composed):
    with pytest.raises(
        ValueError, match=r"env\.size=64 must be a multiple of 24, since model\.encoder\.mults has 4 stages"
    ):
        parse(composed("model.encoder.patch=3"))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("trainer.max_steps=1e30", "trainer.max_steps with 100 bits, at most 63 are taken."),
        ("+env.kwargs={a: 99999999999999999999}", "env.kwargs.a with 67 bits, at most 63 are taken."),
        ("+env.kwargs={a: {1: 2}}", "the key 1 in env.kwargs.a, no name."),
        ("+env.kwargs={a: [{1: 2, b: 3}]}", "the key 1 in env.kwargs.a[0], no name."),
        ("env.name='a\x1b[1m'", r"env.name='a\x1b[1m', with characters that are no text."),
        ("env.name='a\udc80'", r"env.name='a\udc80', with characters that are no text."),
    ],
)
def test_what_a_saved_config_could_not_hold_is_refused_before_the_run(composed, typed, expected):
    with pytest.raises(ValueError) as caught:
        parse(composed("env=dummy_counter", typed))
    assert str(caught.value) == f"This config has {expected}"


@pytest.mark.parametrize(("typed", "expected"), NOT_COMPOSED.items())
def test_words_that_do_not_compose_are_explained(composed, typed, expected):
    with pytest.raises(HydraException) as caught:
        composed(typed)
    message = describe(caught.value, Config)
    assert message.startswith(expected) and "\n" not in message


def test_picture_sizes_do_not_matter_without_pictures(composed):
    assert parse(composed("env.obs=proprio", "env.size=70", "model.depth=3")).env.size == 70


def test_depth_of_the_encoder_decides_which_picture_sizes_fit(composed):
    mults = ("model.encoder.mults=[2,3]", "model.decoder.mults=[2,4]")
    assert parse(composed("env.size=68", *mults)).env.size == 68
    with pytest.raises(ValueError, match=r"env\.size=70 must be a multiple of 4"):
        parse(composed("env.size=70", *mults))


@pytest.mark.parametrize("num_envs", [1, 3, 16, 20])
def test_smallest_capacity_is_enough_to_draw_a_batch(composed, num_envs):
    words = (f"env.num_envs={num_envs}", "batch_size=16", "batch_length=64")
    with pytest.raises(ValueError, match=r"replay\.capacity=17 must be at least") as caught:
        parse(composed("replay.capacity=17", *words))
    least = int(str(caught.value).split("at least ")[1].split(":")[0])
    config = parse(composed(f"replay.capacity={least}", *words))
    rows = int(config.replay.capacity) // num_envs
    assert num_envs * (rows - 64) >= 16 and rows >= 65


@pytest.mark.parametrize(("env", "key"), [("gymnasium", "id"), ("custom", "class")])
def test_environments_without_a_default_ask_for_their_key(composed, env, key):
    with pytest.raises(ValueError, match=rf"^env\.{key} has no value; give env\.{key}=\.\.\."):
        parse(composed(f"env={env}"))


def test_keys_of_one_kind_of_environment_are_refused_by_another(composed):
    with pytest.raises(ValueError, match=r"^env\.camera=2 means nothing with env\.suite=crafter; it belongs to dmc\.$"):
        parse(composed("env=crafter", "env.camera=2"))


def test_missing_value_is_asked_for_by_its_key(composed):
    with pytest.raises(ValueError, match="run_dir has no value"):
        parse(composed("run_dir="))


def test_saved_config_of_another_version_is_refused_by_its_key(composed):
    values = to_dict(parse(composed()))
    values["model"]["gru"] = 3
    with pytest.raises(ValueError, match=r"saved config does not fit this version: .*'gru'"):
        from_dict(values)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["env=walker_wlk"], "error: unknown env 'walker_wlk'; nearest: walker_walk"),
        (["preset=latop"], "error: unknown preset 'latop'; did you mean laptop?"),
        (["modle.optim.lr=1e-4"], "error: unknown key 'modle.optim.lr'; nearest: model.optim.lr"),
        (["+trainer.max_step=1"], "error: unknown key 'trainer.max_step'; nearest: trainer.max_steps"),
        (["trainer.max_steps=lots"], "error: trainer.max_steps=lots must be a number"),
        (["trainer.max_steps=-1"], "error: trainer.max_steps=-1 must be a whole number, at least 1."),
        (["model.rssm.deter=500"], "error: model.rssm.deter=500 must be a multiple of model.rssm.blocks=8"),
        (["batch_length=1"], "error: batch_length=1 must be at least 2."),
        (["env=walker_walk", "model=12"], "error: model=12 must name an option of that group"),
        (["debug=true"], "error: debug=true must name an option of that group"),
        (["+model=-inf"], "error: +model=-inf must name an option of that group"),
        (["hydra/help=null"], "error: hydra/help=null must name an option of that group"),
        (["~model=3"], "error: ~model=3 must name an option of that group"),
        (["seed=" + "9" * 5000], f"error: seed={'9' * 75}... has more digits than a number can have; write it as 1e6."),
        (["run_dir=${nothing}"], "error: run_dir: Interpolation key 'nothing' not found"),
        (["env.obs=a\n\x1b[2Jb\nc\nd"], r"error: cannot read 'env.obs=a \x1b[2Jb c d': write key=value"),
        (["env.obs='a\n\nb\nc'"], "error: env.obs=a b c must be vision, proprio, both or auto."),
        (["env=dummy_counter", "+env.kwargs.a=???"], "error: env.kwargs.a: Missing mandatory value: a"),
    ],
)
def test_train_py_ends_in_at_most_two_lines_with_status_2_and_leaves_nothing(train_py, tmp_path, words, expected):
    result = train_py(*words)
    assert result.returncode == 2
    assert result.stderr.startswith(expected)
    assert len(result.stderr.splitlines()) <= 2 and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_spelling_mistake_in_a_file_of_the_user_names_the_file(train_py, tmp_path):
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text("# @package _global_\ntrainer:\n  train_ration: 3\n")
    (folder / "broken.yaml").write_text("trainer: [\n")
    result = train_py("--config-dir", "mine", "experiment=own")
    assert result.returncode == 2
    assert result.stderr.startswith("error: experiment/own.yaml: unknown key 'trainer.train_ration'; nearest: trainer.")
    result = train_py("--config-dir", "mine", "experiment=broken")
    assert result.returncode == 2 and "broken.yaml" in result.stderr and "Traceback" not in result.stderr


def test_multirun_with_a_value_of_the_wrong_type_starts_no_job(train_py, tmp_path):
    result = train_py("-m", "run_dir=sweep", "seed=0,x")
    assert result.returncode == 2 and result.stderr.startswith("error: seed=x must be a whole number")
    assert not [path for path in (tmp_path / "sweep").iterdir() if path.is_dir()]


def test_failing_job_of_a_multirun_leaves_its_error_and_the_next_one_runs(train_py, tmp_path):
    result = train_py("-m", "run_dir=sweep", "batch_length=1,16", "replay.capacity=1", "hydra/hydra_logging=none")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert (tmp_path / "sweep" / "0" / "error.txt").read_text() == "batch_length=1 must be at least 2.\n"
    assert (tmp_path / "sweep" / "1" / "error.txt").read_text().startswith("replay.capacity=1 must be at least 544")

"""Every file of conf/ composes into a config that passes every check."""

from pathlib import Path

import pytest

from dreamer.config.compose import from_dict, parse, to_dict

CONF = Path(__file__).parents[2] / "conf"
OPTIONS = [f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml")) if not path.stem.startswith("_")]
EXPERIMENTS = [option for option in OPTIONS if option.startswith("experiment=")]

NEEDED = {"env=gymnasium": "env.id=CartPole-v1", "env=custom": "env.class=my_env.Robot", "env=atari": "env.game=pong"}
NAMED = {"env=gymnasium": "CartPole-v1", "env=custom": "my_env.Robot", "env=atari": "atari_pong"}


def is_plain(option: str) -> bool:
    """Whether this is a task that says its name, and nothing that the others do not say."""
    group, name = option.split("=")
    lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
    return lines == ["defaults: [_dmc, _self_]", f"name: {name}"]


@pytest.mark.parametrize(
    "option", [pytest.param(option, marks=pytest.mark.slow) if is_plain(option) else option for option in OPTIONS]
)
def test_every_option_of_every_group_composes_and_parses(composed, option):
    config = parse(composed(option, *filter(None, [NEEDED.get(option)])))
    group, name = option.split("=")
    if group in ("env", "model", "logger"):
        assert getattr(config, group).name == NAMED.get(option, name)
    assert from_dict(to_dict(config)) == config


@pytest.mark.parametrize(
    ("name", "size", "repeat", "ratio", "max_steps"),
    [("atari100k", 64, 4, 256, 400_000), ("crafter", 64, 1, 512, 1_000_000)],
)
@pytest.mark.parametrize("model", ["size1m", "size200m"])
def test_pixel_experiments_hold_the_authors_settings_for_any_network(
    composed, name, size, repeat, ratio, max_steps, model
):
    config = parse(composed(f"experiment={name}", f"model={model}"))
    env, trainer = config.env, config.trainer
    assert (env.size, env.action_repeat, trainer.train_ratio, trainer.max_steps) == (size, repeat, ratio, max_steps)
    assert (config.model.name, config.batch_size, config.batch_length) == (model, 16, 64)
    assert config.replay.capacity >= 1.05 * max_steps / repeat, "rows would be evicted"


@pytest.mark.slow
@pytest.mark.parametrize("debug", ["debug=tiny", "debug=profile"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_debug_goes_with_every_experiment_and_another_task(composed, debug, experiment):
    config = parse(composed(debug, experiment, "env=cheetah_run"))
    assert config.env.name == "cheetah_run"


@pytest.mark.parametrize(
    ("words", "repeat"),
    [((), 2), (("env=atari", "env.game=pong"), 4), (("env=gymnasium", "env.id=CartPole-v1"), 1)],
)
def test_debug_tiny_keeps_the_action_repeat_of_the_environment(composed, words, repeat):
    assert parse(composed(*words, "debug=tiny")).env.action_repeat == repeat


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ((), 30),
        (("env=walker_run", "env.action_repeat=4"), 60),
        (("env=cheetah_run",), 1),
        (("env=cheetah_run", "env.max_reward=1"), 30),
        (("model.discount_horizon=50",), 15),
        (("model.return_norm.limit=5",), 5),
        (("env.max_reward=0.01",), 1),
        (("env.max_reward=null",), 1),
        (("env=gymnasium", "env.id=CartPole-v1"), 1),
        (("model=size1m",), 1),
        (("experiment=dmc_vision",), 1),
        (("experiment=dmc_proprio",), 1),
        (("experiment=walker_walk_classic",), 1),
    ],
)
def test_the_least_scale_of_returns_follows_what_a_task_can_pay_in_the_laptop_preset_alone(composed, words, limit):
    assert parse(composed(*words)).model.return_norm.limit == pytest.approx(limit)


def test_an_id_names_its_run_as_a_directory_can_be_called(composed):
    cfg = composed("env=gymnasium", "env.id=my_package:Robot/Arm-v0")
    assert parse(cfg).env.name == "my_package_Robot_Arm-v0"


def test_words_that_python_keeps_for_itself_are_keys_and_stay_so_in_what_is_saved(composed):
    config = parse(composed("env=custom", "env.class=my_env.Robot", "env.import=my_env.parts"))
    assert (config.env.class_, config.env.import_) == ("my_env.Robot", "my_env.parts")
    saved = to_dict(config)["env"]
    assert (saved["class"], saved["import"]) == ("my_env.Robot", "my_env.parts")
    assert not saved.keys() & {"class_", "import_"}


@pytest.mark.parametrize("word", ["env.kwargs.gravity=5", "+env.kwargs.gravity=5", "env.kwargs={gravity: 5}"])
def test_arguments_of_an_environment_are_given_one_by_one_or_together(composed, word):
    config = parse(composed("env=gymnasium", "env.id=CartPole-v1", word))
    assert config.env.kwargs == {"gravity": 5} and from_dict(to_dict(config)) == config


def test_arguments_in_a_file_are_changed_one_by_one(composed):
    kwargs = parse(composed("env=memory", "env.kwargs.delay=40")).env.kwargs
    assert kwargs == {"delay": 40, "num_cues": 2, "is_asked_always": True}


def test_keys_of_another_kind_of_environment_are_not_part_of_an_experiment(composed):
    saved = to_dict(parse(composed("env=walker_walk")))["env"]
    assert saved.keys() == {
        "suite",
        "name",
        "obs",
        "action_repeat",
        "max_reward",
        "size",
        "camera",
        "render",
        "num_envs",
        "workers",
        "on_fault",
        "step_timeout",
        "ray_address",
        "ray_cpus",
    }


@pytest.mark.parametrize("size", [option for option in OPTIONS if option.startswith("model=")])
def test_model_sizes_follow_the_rule_of_the_paper(composed, size):
    model = parse(composed(size)).model
    hidden = model.units
    assert (model.name, model.rssm.hidden) == (size.removeprefix("model="), hidden)
    assert (model.rssm.deter, model.rssm.classes, model.depth) == (8 * hidden, hidden // 16, hidden // 16)


@pytest.mark.parametrize(
    ("name", "obs", "model", "max_steps"),
    [("dmc_vision", "vision", "size12m", 1_000_000), ("dmc_proprio", "proprio", "size1m", 500_000)],
)
def test_paper_experiments_hold_the_published_settings_for_any_task(composed, name, obs, model, max_steps):
    config = parse(composed(f"experiment={name}", "env=cartpole_balance"))
    assert (config.env.name, config.env.obs, config.env.action_repeat) == ("cartpole_balance", obs, 2)
    assert (config.model.name, config.model.optim.lr, config.trainer.train_ratio) == (model, 4e-5, 512)
    assert (config.batch_size, config.batch_length, config.trainer.max_steps) == (16, 64, max_steps)
    policy_steps = max_steps // 2
    resets = policy_steps // 500 + 1
    assert config.replay.capacity >= policy_steps + resets, "rows would be evicted"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_no_experiment_has_another_ratio_at_first(composed, experiment):
    trainer = parse(composed(experiment)).trainer
    assert trainer.early_ratio is None and trainer.ratio_at(0) == trainer.train_ratio


@pytest.mark.parametrize(
    ("words", "first"), [("", 48), ("trainer.train_ratio=20", 20), ("trainer.early_ratio=null", 144)]
)
def test_the_first_steps_have_the_lower_of_two_ratios(composed, words, first):
    assert parse(composed("env=walker_walk", *words.split())).trainer.ratio_at(0) == first


def test_classic_experiment_has_three_learning_rates_and_a_short_memory(composed):
    config = parse(composed("experiment=walker_walk_classic"))
    optim = config.model.optim
    assert (optim.world_lr, optim.actor_lr, optim.critic_lr) == (3e-4, 8e-5, 8e-5)
    assert (config.env.name, config.model.actor.dist, config.model.imagination.horizon) == (
        "walker_walk", "tanh_normal", 15,
    )  # fmt: skip
    assert (config.batch_size, config.batch_length, config.trainer.collect_steps) == (16, 50, 500)
    assert (config.replay.capacity, config.replay.storage, config.model.free_nats) == (25_000, "ram", 1.0)


def test_command_line_wins_over_experiment_and_debug(composed):
    config = parse(composed("experiment=dmc_vision", "debug=tiny", "batch_size=3", "model.rssm.deter=128"))
    assert (config.batch_size, config.model.rssm.deter) == (3, 128)


def test_counts_may_be_written_with_an_exponent_and_become_whole_numbers(composed):
    config = parse(composed("trainer.max_steps=1e8", "replay.capacity=3e4", "trainer.eval_every=2.5e4"))
    counts = [config.trainer.max_steps, config.replay.capacity, config.trainer.eval_every]
    assert counts == [100_000_000, 30_000, 25_000] and all(type(count) is int for count in counts)


def test_saved_dictionary_gives_the_same_config_back(composed):
    config = parse(composed("experiment=walker_walk_classic", "env.obs=both"))
    assert from_dict(to_dict(config)) == config

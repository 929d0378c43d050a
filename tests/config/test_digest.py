"""The digest names an experiment; differences keep a run from going on as another one."""

import pytest

from dreamer.config.compose import from_dict, parse, to_dict
from dreamer.config.digest import differences, digest

SAME = [
    "run_dir=elsewhere", "resume=never", "logger=csv", "trainer.max_steps=1e8", "trainer.device=cpu",
    "trainer.threads=1", "trainer.eval_every=0", "trainer.checkpoint_minutes=1", "trainer.precision=float32",
    "replay.storage=disk",
]  # fmt: skip
OTHER = [
    "seed=1", "env=cheetah_run", "env.obs=both", "model=size12m", "model.optim.lr=1e-4", "trainer.train_ratio=64",
    "replay.capacity=3e5", "replay.capacity=1e5", "batch_size=8", "trainer.overlap=true",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("word", SAME)
def test_where_and_how_long_a_run_goes_does_not_change_the_experiment(composed, word):
    old, new = parse(composed()), parse(composed(word))
    assert old != new
    assert digest(old) == digest(new) and differences(to_dict(old), to_dict(new)) == []


@pytest.mark.parametrize("word", OTHER)
def test_every_other_setting_makes_another_experiment(composed, word):
    old, new = parse(composed()), parse(composed(word))
    assert digest(old) != digest(new) and differences(to_dict(old), to_dict(new))


def test_differences_name_key_and_both_values(composed):
    old, new = to_dict(parse(composed())), to_dict(parse(composed("batch_size=8")))
    assert differences(old, new) == ["batch_size: 32 -> 8"]
    del old["model"]["optim"]["agc"]
    assert differences(old, new) == ["batch_size: 32 -> 8", "model.optim.agc: absent -> 0.3"]


def test_digest_survives_saving_and_spelling(composed):
    config = parse(composed("trainer.collect_steps=1000"))
    assert digest(from_dict(to_dict(config))) == digest(config)
    assert digest(parse(composed("trainer.collect_steps=1e3"))) == digest(config)
    assert len(digest(config)) == 12

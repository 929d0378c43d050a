"""The one test that everything together learns: a task that no policy without memory can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamer.config.schema import Config
from dreamer.envs.make import make_env
from dreamer.training.evaluation import evaluate
from dreamer.training.run import prepare

EPISODES = 100
BAR = 0.9
"""Of 1, the best possible return of dummy_recall, which pays 1 for naming one of two cues, 4 steps after it was seen.

Whoever does not remember it names the right one with probability 1/2, whatever the policy. The return of 100 episodes
is then binomial: 0.5 +- 0.05. 0.9 is 8 standard deviations above: probability 1.5e-17, so no chance at all in the few
attempts below.
"""

SETTINGS = (
    "env=dummy_recall", "env.action_repeat=1", "batch_size=16", "batch_length=8", "replay.capacity=10000",
    "model.units=64", "model.rssm.deter=64", "model.rssm.hidden=64", "model.rssm.stoch=8", "model.rssm.classes=8",
    "model.encoder.layers=1", "model.decoder.layers=1", "model.actor.layers=1", "model.critic.layers=1",
    "model.optim.lr=1e-3", "model.optim.actor_lr=null", "model.optim.warmup=50", "model.actor.entropy=3e-2",
    "model.discount_horizon=33", "model.imagination.last=8",
    "trainer.collect_steps=500", "trainer.train_ratio=128", "trainer.early_ratio=null",
    "trainer.eval_every=0", "trainer.video_every=0",
)  # fmt: skip


def recalled(config: Config) -> float:
    """Train up to config.trainer.max_steps, from where the run directory stands; the mean return after it."""
    training = prepare(config)
    training.fit()
    return evaluate(
        training.agent.eval(), make_env(config.env), EPISODES, seed=0, max_length=config.trainer.eval_length
    ).mean


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_agent_learns_to_remember_a_cue(tiny, tmp_path: Path) -> None:
    scores: dict[int, float] = {}
    for max_steps in range(800, 2801, 400):  # a run in pieces, so that it ends as soon as it has learned
        config = tiny(*SETTINGS, f"run_dir={tmp_path / 'run'}", f"trainer.max_steps={max_steps}")
        scores[max_steps] = recalled(config)
        if scores[max_steps] >= BAR:
            return
    pytest.fail(f"mean return of {EPISODES} episodes after so many environment steps: {scores}; the bar is {BAR}")

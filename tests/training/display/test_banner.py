"""The lines that a run begins with."""

from __future__ import annotations

from dreamer.agent import Agent
from dreamer.training.display.banner import describe_run
from dreamer.types import Space


def test_start_line_counts_updates_as_the_schedule_does(tiny):
    config = tiny("trainer.max_steps=8320", "trainer.train_ratio=32", "env.action_repeat=4")
    agent = Agent(
        config.model,
        {"height": Space((), "float32"), "dials": Space((2,), "int32", (4, 2))},
        Space((1,), "int32", (6,)),
    )
    text = describe_run(config, agent, 1, False, 3 * 10**9, "disk")
    # 2080 policy steps, 80 of them random; 32 of 4 x 16 rows for each: an update in two.
    assert "8,320 environment steps" in text and "2,080 policy steps x action repeat 4" in text
    assert "one update of 4 x 16 every 2 policy steps; about 1,000 updates in all" in text
    assert "80 policy steps with random actions before the first update" in text
    assert "3.00 GB when full, on disk" in text
    config.trainer.early_ratio, config.trainer.early_steps = 8.0, 1080
    text = describe_run(config, agent, 1, False, 3 * 10**9, "disk")
    assert (
        "8 (trainer.early_ratio; null: no limit) until policy step 1,080, then 32 replayed rows per policy step" in text
    )
    assert "every 8, then 2 policy steps; about 625 updates in all" in text
    config.trainer.early_steps = 2080  # as long as the run
    text = describe_run(config, agent, 1, False, 3 * 10**9, "disk")
    assert "8 (trainer.early_ratio; null: no limit) replayed rows" in text and "every 8 policy steps; about 250" in text
    assert (
        "cpu, float32, 1 CPU threads, not compiled" in text
        and "overlap      false: environments and updates take turns" in text
    )
    assert "observation  height 1, dials one of 4 x 2; action: one of 6" in text

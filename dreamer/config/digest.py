"""Which experiment a config is: a digest to name it by, and the settings under which a run cannot be resumed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from dreamer.config.compose import flat, to_dict
from dreamer.config.schema import Config

MAY_CHANGE = (
    "run_dir", "resume", "logger.name", "logger.project", "logger.entity", "logger.offline", "logger.tracking_uri",
    "trainer.max_steps", "trainer.eval_every", "trainer.eval_episodes",
    "trainer.eval_length", "trainer.video_every", "trainer.log_every", "trainer.checkpoint_minutes", "trainer.device",
    "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.rank_timeout", "trainer.precision",
    "trainer.compile", "trainer.cuda_graphs", "trainer.threads", "trainer.profile", "replay.storage", "env.workers",
    "env.ray_address", "env.ray_cpus", "env.on_fault", "env.step_timeout",
)  # fmt: skip
"""Keys that say how far a run goes, where and on what, not which experiment it is: a resumed run may have others."""


def digest(config: Config) -> str:
    """Twelve hexadecimal digits that name the experiment: the same on every machine, and after every resume."""
    values = {key: value for key, value in flat(to_dict(config)).items() if key not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """`key: old -> new` for each setting, of two results of to_dict, that makes them two experiments."""
    before, after = flat(old), flat(new)
    return [
        f"{key}: {before.get(key, 'absent')} -> {after.get(key, 'absent')}"
        for key in sorted(before.keys() | after.keys())
        if key not in MAY_CHANGE and before.get(key, "absent") != after.get(key, "absent")
    ]

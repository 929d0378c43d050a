"""Check an environment: python scripts/check_env.py env=<task> [steps=1000] [out=check_env.png] [key=value ...]

Plays it with random actions and prints what it saw and what is wrong. The exit status is 1 if there was an error.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import hydra
import numpy as np
from omegaconf import DictConfig
from PIL import Image

from dreamer.cli import check_output, refusing_bad_input, run, script_options, training_config
from dreamer.config.bounds import bounded, whole
from dreamer.config.compose import register
from dreamer.config.schema import Config
from dreamer.data.storage import columns_of, gigabytes, nbytes_of
from dreamer.envs.checker.examine import build, examine
from dreamer.envs.checker.table import aligned, describe, sheet_of, summary
from dreamer.envs.spec import Env


@dataclass
class Options:
    steps: int | float = bounded(1000, low=1, is_whole=True)
    out: str | None = "check_env.png"

    def __post_init__(self) -> None:
        self.steps = whole(self.steps)


@dataclass
class CheckEnvConfig(Options, Config):
    """What the command line takes: the options above, and every key of training."""


register(CheckEnvConfig)


@hydra.main(version_base=None, config_path="../conf", config_name="check_env")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options, config = script_options(cfg, Options), training_config(cfg)
        check_output("out", options.out, ".png")
        env = build(config.env)
    lines = {"env": f"{config.env.name}, {config.env.obs}, action repeat {config.env.action_repeat}"}
    if isinstance(env, list):
        findings = env
    else:
        report = examine(env, int(options.steps), config.seed)
        findings = report.findings
        lines |= {**describe(env, report), "replay": describe_replay(config, env)}
        if options.out and report.frames:
            write_sheet(options.out, report.frames)
            keys = [key for key, space in env.obs_space.items() if space.is_image]
            lines["frames"] = f"{options.out}: {', '.join(keys)} side by side" if len(keys) > 1 else options.out
    print(aligned(lines))
    for finding in findings:
        print(f"\n{finding}")
    levels = {finding.level for finding in findings}
    is_sound = "error" not in levels
    verdict = "mend the errors first" if not is_sound else "it runs, but see above" if "warning" in levels else "fine"
    print(f"\n{summary(findings)}: {verdict}.")
    sys.exit(0 if is_sound else 1)


def describe_replay(config: Config, env: Env) -> str:
    """What the rows of this environment take, with the latents of the chosen model."""
    columns = columns_of(env.obs_space, env.action_space, config.model.rssm.deter, config.model.rssm.stoch)
    capacity = int(config.replay.capacity)
    size = f"{nbytes_of(columns, 1):,} bytes a step, {gigabytes(nbytes_of(columns, capacity))} in all"
    return f"{size} with replay.capacity={capacity} and model={config.model.name}"


def write_sheet(out: str, frames: list[np.ndarray]) -> None:
    Image.fromarray(sheet_of(frames)).save(out)


if __name__ == "__main__":
    run(main, CheckEnvConfig)

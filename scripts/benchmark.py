"""Measure speed: python scripts/benchmark.py what=update|policy|replay|collect|render|end_to_end json=out.json

Prints a table and writes JSON. Without keys of a network it measures the standard ROWS; with them (model=size12m
batch_size=16 ...) that one, composed as in training. docs/performance.md explains the numbers.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from dreamer.cli import check_output, refusing_bad_input, run, script_options, training_config
from dreamer.config.bounds import bounded, one_of, whole
from dreamer.config.compose import register
from dreamer.config.schema import Config

PARTS = ("update", "policy", "replay", "collect", "render", "end_to_end")
ROWS = {
    "laptop_vision": ["model=laptop", "env.obs=vision"],
    "laptop_proprio": ["model=laptop", "env.obs=proprio"],
    "size1m_proprio": ["model=size1m", "env.obs=proprio", "batch_size=16", "batch_length=64"],
    "size1m_vision": ["model=size1m", "env.obs=vision", "batch_size=16", "batch_length=64"],
    "size12m_vision": ["model=size12m", "env.obs=vision", "batch_size=16", "batch_length=64"],
}
SLOW_ROWS = ("size12m_vision",)  # with quick=false alone
NETWORK = r"[+~]*(model|experiment|debug|env\.obs|env\.size|batch_size|batch_length)\b"


@dataclass
class Options:
    what: str = one_of("all", *PARTS)
    json: str | None = None
    quick: bool = True
    threads: list[int] = bounded([1, 2], low=1)
    seconds: float | None = bounded(None, above=0)
    disk_steps: int | float = bounded(500_000, low=1000, is_whole=True)

    def __post_init__(self) -> None:
        self.disk_steps = whole(self.disk_steps)


@dataclass
class BenchmarkConfig(Options, Config):
    """What the command line takes: the options above, and every key of training."""


register(BenchmarkConfig)


def standard_rows(is_quick: bool) -> dict[str, Config] | None:
    """ROWS, with the words that were typed; None where these name a network."""
    typed = HydraConfig.get().overrides.task
    if any(re.match(NETWORK, word) for word in typed):
        return None
    names = [name for name in ROWS if not (is_quick and name in SLOW_ROWS)]
    return {name: training_config(compose("config", [*ROWS[name], *typed])) for name in names}


@hydra.main(version_base=None, config_path="../conf", config_name="benchmark")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = script_options(cfg, Options)
        check_output("json", options.json)
        config, rows = training_config(cfg), standard_rows(options.quick)
        parts = [part for part in PARTS if part != "render" or config.env.uses_pixels]  # a run from state draws nothing
        if options.what != "all":
            parts = [options.what]

        from dreamer.benchmark import suite  # torch takes seconds to import

        plan = suite.Plan(
            config=config,
            rows=rows or {f"{config.model.name}_{config.env.obs}": config},
            is_standard=rows is not None,
            is_quick=options.quick,
            threads=list(options.threads),
            seconds=options.seconds,
            disk_steps=int(options.disk_steps),
        )
        suite.check_plan(plan, parts)
    report = {"words": list(HydraConfig.get().overrides.task), **suite.measure(plan, parts)}
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run(main, BenchmarkConfig)

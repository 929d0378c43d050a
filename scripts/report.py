"""A run at a glance: python scripts/report.py run=<run dir, [DIR,DIR], or a directory with runs in it> out=report.html

Writes one HTML file that needs no network: returns beside the published ones, the runs side by side, evaluations,
films, losses, speeds, what differs from the default settings, machines and commits. Runs may still be going.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from dreamer.cli import check_output, own_options, refusing_bad_input, run
from dreamer.config.compose import register
from dreamer.config.defaults import compared


@dataclass
class ReportConfig:
    run: Any = MISSING  # a directory or a list of them
    out: str = "report.html"
    overwrite: bool = False


register()
ConfigStore.instance().store(name="report_schema", node=ReportConfig)


@hydra.main(version_base=None, config_path="../conf", config_name="report")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        if not cfg.get("run"):
            raise ValueError("run has no value; give run=<run directory, several as [DIR,DIR], or a sweep's>.")
        options = own_options(cfg, ReportConfig)
        check_output("out", options.out, ".html")
        from dreamer.report.groups import group
        from dreamer.report.page import build_page
        from dreamer.report.runs import read_runs
        from dreamer.report.writing import check_replaceable, write_report

        out = Path(options.out)
        check_replaceable(out, options.overwrite)
        runs, left_out = read_runs(directories(options.run))
        page = build_page(group(runs), left_out, compared, datetime.now())
        write_report(out, page)
    kilobytes = out.stat().st_size / 1000
    size = f"{kilobytes:.0f} kB" if kilobytes < 1000 else f"{kilobytes / 1000:.1f} MB"
    print(f"wrote {out} ({size}): {len(runs)} run{'' if len(runs) == 1 else 's'}")
    for path, reason in left_out:
        print(f"left out: {path}: {reason}")


def directories(value: Any) -> list[Path]:
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str | int | float) and not isinstance(name, bool) and str(name) for name in names):
        raise ValueError(f"run={value} must be a directory or a list of them: run=[DIR,DIR].")
    return [Path(str(name)) for name in names]


if __name__ == "__main__":
    run(main, ReportConfig)

"""scripts/benchmark.py: the keys of its JSON, what it picks, and what it refuses. Sizes are those of debug=tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from dreamer.benchmark.suite import PARTS, Plan, check
from dreamer.benchmark.timing import Budget
from dreamer.benchmark.update import build, count_gflop, in_lightning, measure_update, spaces
from dreamer.envs.make import make_env

ROOT = Path(__file__).parents[2]
TINY = ("debug=tiny", "env=dummy_counter", "env.obs=both", "seconds=0.2", "threads=[1]", "trainer.threads=1")


@pytest.fixture
def benchmark_py(tmp_path):
    """Runs `python scripts/benchmark.py <words>` in an empty directory."""

    def benchmark_py(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "scripts" / "benchmark.py"), *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240)

    return benchmark_py


def numbers(value: Any, path: str = "") -> list[tuple[str, float]]:
    """(path, number) of everything below."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in numbers(item, f"{path}/{key}")]
    return [(path, value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_all_parts_have_the_promised_keys_and_positive_numbers(benchmark_py, tmp_path):
    result = benchmark_py(*TINY, "json=out.json", "quick=false", "disk_steps=1000")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report) == ["machine", "versions", "commit", *PARTS]
    for part in ("update", "policy", "replay"):
        first = list(report[part])[3]
        assert {key: report[part][key] for key in ("seconds", "cpu_seconds", "threads")}.items() <= {
            key: value for key, value in report[part][first].items() if not isinstance(value, dict)
        }.items()
    update = report["update"]["tiny_both"]
    assert list(update["phases"]) == ["observe", "imagine", "heads", "backward", "optimizer"]
    assert {"gflop", "limit_seconds", "peak_memory_gb"} <= update.keys() and update["threads"] == 1
    assert update["limit_seconds"] == pytest.approx(update["gflop"] / update["gflop_per_second"])
    assert (update["batch_size"], update["batch_length"], update["imagined_starts"]) == (4, 16, 64)
    assert {"sample", "add", "write_back", "disk_sample", "disk_add", "disk_write_back"} <= report["replay"].keys()
    assert (report["replay"]["sample"]["steps"], report["replay"]["disk_sample"]["steps"]) == (2000, 1000)
    assert report["render"].keys() == {"reference"} and report["render"]["reference"]["mean_difference"] == 0
    assert {"frames_per_second", "cpu_seconds", "threads"} <= report["end_to_end"].keys()
    assert 0 < report["end_to_end"]["update_share"] < 1
    for path, number in numbers(report):
        may_be_zero = any(word in path for word in ("difference", "share_off", "load_average", "cpu_seconds"))
        assert number > 0 or (may_be_zero and number == 0), path
    printed = [line.split()[0] for line in result.stdout.splitlines()]
    assert {"machine", "versions", "commit", *PARTS} <= set(printed)
    assert not [path for path in tmp_path.iterdir() if path.name != "out.json"], "runs and replay leave nothing behind"


def test_what_picks_one_part_and_the_table_is_enough(benchmark_py, tmp_path):
    result = benchmark_py(*TINY, "what=policy")
    assert result.returncode == 0, result.stderr
    shown = [line.split()[0] for line in result.stdout.splitlines()]
    assert shown == ["machine", "versions", "commit", "what", "policy"]
    assert "tiny_both" in result.stdout and not list(tmp_path.iterdir())


def test_phases_add_up_to_the_update(tiny):
    config = tiny("env=dummy_counter", "env.obs=both")
    entry = measure_update(config, [1], Budget(0.5, 5), with_memory=False)
    assert sum(entry["phases"].values()) == pytest.approx(entry["seconds"], rel=0.35)
    assert entry["cpu_seconds"] > 0 and entry["parameters"] > 1000


def test_operations_grow_in_proportion_to_the_batch_and_with_the_horizon(tiny):
    config = tiny("env=dummy_counter", "env.obs=both")
    counter = FlopCounterMode(display=False)

    def work(module, update):
        with counter:
            update()

    in_lightning(*build(config), work)
    gflop = count_gflop(config)
    assert config.batch_size > 1 and gflop == pytest.approx(counter.get_total_flops() / 1e9)
    assert count_gflop(tiny("env=dummy_counter", "env.obs=both", "model.imagination.horizon=10")) > 1.1 * gflop


@pytest.mark.parametrize("obs", ["vision", "proprio", "both"])
@pytest.mark.parametrize("env", ["env=dummy_counter", "env=dummy_recall"])
def test_spaces_are_those_of_the_environment(tiny, env, obs):
    config = tiny(env, f"env.obs={obs}").env
    real = make_env(config)
    assert spaces(config) == (real.obs_space, real.action_space)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["what=rander"],
            "what=rander must be all, update, policy, replay, render or end_to_end. Did you mean render?",
        ),
        (["wat=update"], "unknown key 'wat'; nearest: what"),
        (["threads=[0]"], "threads=[0] must have one or more entries, each at least 1."),
        (["threads=two"], "threads=two must be a list of whole numbers"),
        (["seconds=0"], "seconds=0.0 must be above 0."),
        (["quick=maybe"], "quick=maybe must be true or false."),
        (["model=size2"], "unknown model 'size2'"),
        (["model.rssm.blocks=7"], "model.rssm.deter=512 must be a multiple of model.rssm.blocks=7"),
        (["json=nowhere/out.json"], "json=nowhere/out.json: the directory nowhere does not exist."),
    ],
)
def test_bad_input_ends_in_one_line(benchmark_py, words, expected):
    result = benchmark_py(*words)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(f"error: {expected}") and len(result.stderr.splitlines()) <= 2


def test_what_this_machine_cannot_do_is_refused_before_anything_is_measured(tiny):
    config = tiny("env=dummy_counter")
    plan = Plan(config, {"tiny": config}, False, is_quick=False, threads=[1], seconds=None, disk_steps=10**12)
    check(plan, ["update", "policy"])
    with pytest.raises(ValueError, match=r"disk_steps=1000000000000 needs .* GB in .*; give fewer"):
        check(plan, ["replay"])
    plan.config.env.name = "dummy_conter"
    with pytest.raises(ValueError, match=r"env.name=dummy_conter is not a task of env.suite=dummy"):
        check(plan, ["update"])

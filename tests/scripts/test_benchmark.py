"""scripts/benchmark.py: the keys of its JSON, what it picks, and what it refuses. Sizes are those of debug=tiny."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from dreamer.benchmark.suite import PARTS, Plan, check_plan, measure
from dreamer.benchmark.timing import Budget
from dreamer.benchmark.update import count_gflop, counted_flop, measure_update, spaces
from dreamer.cli import training_config
from dreamer.envs.make import make_env
from scripts.benchmark import ROWS

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


@pytest.mark.slow
def test_all_parts_have_the_promised_keys_and_positive_numbers(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = tiny("env=dummy_counter", "env.obs=both")
    plan = Plan(config, {"tiny_both": config}, False, is_quick=False, threads=[1], seconds=0.2, disk_steps=1000)
    report = json.loads(json.dumps(measure(plan, list(PARTS))))
    assert list(report) == ["machine", "versions", "commit", *PARTS]
    for part, first in (("update", "tiny_both"), ("policy", "tiny_both"), ("replay", "sample")):
        for key in ("seconds", "cpu_seconds", "threads"):
            assert report[part][key] == report[part][first][key]
    update = report["update"]["tiny_both"]
    assert list(update["phases"]) == ["observe", "imagine", "heads", "backward", "optimizer"]
    assert {"gflop", "limit_seconds", "peak_memory_gb"} <= update.keys() and update["threads"] == 1
    assert update["limit_seconds"] == pytest.approx(update["gflop"] / update["gflop_per_second"])
    assert (update["batch_size"], update["batch_length"], update["imagined_starts"]) == (4, 16, 64)
    assert {"sample", "add", "write_back", "disk_sample", "disk_add", "disk_write_back"} <= report["replay"].keys()
    assert (report["replay"]["sample"]["steps"], report["replay"]["disk_sample"]["steps"]) == (2000, 1000)
    assert report["render"].keys() == {"reference"} and report["render"]["reference"]["mean_difference"] == 0
    assert report["collect"].keys() >= {"envs", "envs_policy", "policy_steps_per_second"}
    alone, acting = report["collect"]["envs"], report["collect"]["envs_policy"]
    assert alone["policy_steps_per_second"] > acting["policy_steps_per_second"] and alone["workers"] == "serial"
    assert {"frames_per_second", "cpu_seconds", "threads"} <= report["end_to_end"].keys()
    ran = {key: report["end_to_end"][key] for key in ("env", "obs", "model", "precision", "num_envs", "batch_size")}
    assert ran == {
        "env": "dummy_counter", "obs": "both", "model": config.model.name, "precision": "float32", "num_envs": 1,
        "batch_size": 4,
    }  # fmt: skip
    assert 0 < report["end_to_end"]["update_share"] < 1
    for path, number in numbers(report):
        may_be_zero = any(word in path for word in ("difference", "share_off", "load_average", "cpu_seconds"))
        assert number > 0 or (may_be_zero and number == 0), path
    printed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"machine", "versions", "commit", *PARTS} <= set(printed)
    assert not list(tmp_path.iterdir()), "runs and replay leave nothing behind"


@pytest.mark.slow
def test_what_picks_one_part_for_the_table_and_the_json(benchmark_py, tmp_path):
    result = benchmark_py(*TINY, "what=policy", "json=out.json")
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report) == ["words", "machine", "versions", "commit", "policy"]
    assert report["words"] == [*TINY, "what=policy", "json=out.json"]
    assert report["policy"]["tiny_both"]["seconds"] > 0
    shown = [line.split()[0] for line in result.stdout.splitlines()]
    assert shown == ["machine", "versions", "commit", "what", "policy"]


@pytest.mark.slow
def test_phases_add_up_to_the_update(tiny):
    config = tiny("env=dummy_counter", "env.obs=both")
    entry = measure_update(config, [1], Budget(0.5, 5))
    assert sum(entry["phases"].values()) == pytest.approx(entry["seconds"], rel=0.35)
    assert entry["cpu_seconds"] > 0 and entry["parameters"] > 1000


@pytest.mark.slow
def test_operations_of_a_whole_batch_follow_from_those_of_one_and_two_sequences(tiny):
    config = tiny("env=dummy_counter", "env.obs=both")
    assert config.batch_size > 2 and count_gflop(config) == pytest.approx(counted_flop(config) / 1e9)
    longer = tiny("env=dummy_counter", "env.obs=both", "model.imagination.horizon=10")
    assert count_gflop(longer) > 1.1 * count_gflop(config)


@pytest.mark.parametrize("obs", ["vision", "proprio", "both"])
@pytest.mark.parametrize("env", ["env=dummy_counter", "env=dummy_recall"])
def test_spaces_are_those_of_the_environment(tiny, env, obs):
    config = tiny(env, f"env.obs={obs}").env
    real = make_env(config)
    assert spaces(config) == (real.obs_space, real.action_space)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["what=rander"],
            "what=rander must be all, update, policy, replay, collect, render or end_to_end. Did you mean render?",
        ),
        (["wat=update"], "unknown key 'wat'; nearest: what"),
        (["threads=[0]"], "threads=[0] must have one or more entries, each at least 1."),
        (["threads=two"], "threads=two must be a list of whole numbers"),
        (["seconds=0"], "seconds=0.0 must be above 0."),
        (["quick=maybe"], "quick=maybe must be true or false."),
        (["model=size2"], "unknown model 'size2'"),
        (["env=custom", "env.class=nowhere.Robot"], "env.class=nowhere.Robot cannot be imported from "),
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
    check_plan(plan, ["update", "policy"])
    with pytest.raises(ValueError, match=r"disk_steps=1000000000000 needs .* GB in .*; give fewer"):
        check_plan(plan, ["replay"])
    plan.config.env.name = "dummy_conter"
    with pytest.raises(ValueError, match=r"env.name=dummy_conter is not a task of env.suite=dummy"):
        check_plan(plan, ["update"])


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("size")])
def test_rows_of_the_papers_networks_have_the_papers_batch(composed, name):
    config = training_config(composed(*ROWS[name]))
    assert (config.batch_size, config.batch_length, config.model.imagination.last) == (16, 64, 0)

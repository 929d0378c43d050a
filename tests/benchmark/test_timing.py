"""Medians, turns, and what is counted: time on a clock that we know, operations by hand."""

from __future__ import annotations

import subprocess
import sys
import time

import psutil
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dreamer.benchmark import timing
from dreamer.benchmark.machine import machine, matrix_speed
from dreamer.benchmark.timing import Budget, Timing, best, in_fresh_process, interleaved, medians, peak_memory, timed
from dreamer.training.saving.sessions import commit, versions


def test_medians_are_of_each_column_and_of_an_even_number_the_mean_of_the_middle_two():
    samples = [Timing(3.0, 1.0), Timing(1.0, 9.0), Timing(8.0, 2.0)]
    assert medians(samples) == Timing(3.0, 2.0)
    assert medians([*samples, Timing(4.0, 4.0)]) == Timing(3.5, 3.0)


def test_best_is_the_one_with_the_least_wall_time():
    assert best({1: Timing(2.0, 2.0), 2: Timing(1.5, 3.0)}) == 2


def test_functions_take_turns_forwards_and_backwards_after_a_first_call_that_does_not_count(monkeypatch):
    monkeypatch.setattr(timing, "LEAST_SECONDS", 1e-4)  # so that a sample is one call
    called = []

    def sleep(name: str, seconds: float) -> None:
        called.append(name)
        time.sleep(0.2 if called.count(name) == 1 else seconds)

    functions = {"a": lambda: sleep("a", 0.01), "b": lambda: sleep("b", 0.06)}
    timings = interleaved(functions, Budget(seconds=0.0, rounds=3))
    assert called == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert 0.01 <= timings["a"].seconds < 0.06 <= timings["b"].seconds < 0.2
    assert timings["b"].cpu_seconds < 0.03, "sleeping takes no CPU time"


def test_a_short_call_is_repeated_within_a_sample():
    count = 0

    def call() -> None:
        nonlocal count
        count += 1
        time.sleep(0.001)

    assert 0.001 <= interleaved({"call": call}, Budget(0.0, 2))["call"].seconds < 0.02
    assert count > 6


def test_a_sample_is_the_mean_of_its_calls():
    assert 0.02 <= timed(lambda: time.sleep(0.02), calls=3).seconds < 0.06


def peaks() -> list[int]:
    """Before, while and after 100 MB are held; in a process of its own, since this one may have held more before."""
    before = peak_memory()
    held = torch.ones(100_000_000, dtype=torch.uint8)
    while_held = peak_memory()
    del held
    return [before, while_held, peak_memory()]


@pytest.mark.slow
def test_peak_memory_counts_what_was_freed_and_not_what_another_process_holds():
    held = torch.ones(300_000_000, dtype=torch.uint8)
    before, while_held, after = in_fresh_process(peaks)
    assert while_held > before + 50e6 and after > before + 50e6
    assert before < peak_memory() - held.numel() / 2


def test_operations_of_products_and_convolutions_are_counted_forward_and_backward():
    """A multiplication and an addition each. Backward, weights and input cost as much each; a first input none."""
    linear, convolution = nn.Linear(5, 7), nn.Conv2d(3, 4, kernel_size=5, padding=2)
    cells = nn.Parameter(torch.ones(2, 7, 6))
    with FlopCounterMode(display=False) as counter:
        hidden = linear(torch.ones(2, 3, 5))  # addmm: 6 x 5 x 7
        torch.bmm(hidden, cells).sum().backward()  # bmm: 2 x 3 x 7 x 6
        convolution(torch.ones(2, 3, 8, 8)).sum().backward()  # 2 x 4 x 8 x 8 outputs of 3 x 25
    products = 2 * (6 * 5 * 7) + 3 * (2 * 3 * 7 * 6)
    convolutions = 2 * (2 * 4 * 8 * 8 * 3 * 25)
    assert counter.get_total_flops() == 2 * (products + convolutions)


def test_machine_versions_and_commit_are_known_here():
    cpu = torch.device("cpu")
    described = machine(cpu)
    assert described["cores"] >= described["cores_usable"] >= 1 and described["memory_gb"] > 0 and described["cpu"]
    assert versions()["torch"] == torch.__version__ and versions()["python"]
    assert commit() is None or len(commit().removesuffix("-dirty")) == 40
    assert matrix_speed(torch.float32, cpu, seconds=0.05) > 0


@pytest.mark.parametrize("storage", ["ram", "disk"])
def test_replay_is_filled_with_every_row(tiny, tmp_path, storage):
    from dreamer.benchmark.replay import columns_for, filled

    config = tiny("env=dummy_counter_discrete", "env.obs=both")
    replay = filled(config, columns_for(config), 100, storage, tmp_path)
    assert replay.num_rows == 100
    rows, _ = replay.sample(8)
    assert rows["obs.image"].std() > 50 and rows["deter"].std() > 0.1


def test_a_fresh_process_ends_with_the_one_that_made_it():
    script = "import time; from dreamer.benchmark.timing import in_fresh_process; in_fresh_process(time.sleep, 600)"
    parent = subprocess.Popen([sys.executable, "-c", f"if __name__ == '__main__':\n    {script}"])
    end, measuring = time.monotonic() + 60, []
    while time.monotonic() < end and not measuring:
        time.sleep(0.1)
        children = psutil.Process(parent.pid).children()
        measuring = [child for child in children if any("spawn_main" in word for word in child.cmdline())]
    parent.kill()
    parent.wait()
    assert len(measuring) == 1
    measuring[0].wait(timeout=60)

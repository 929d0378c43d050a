"""Runs of two processes: what they leave, how they go on, and how they end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

pytestmark = pytest.mark.slow  # whole runs

ROOT = Path(__file__).parents[3]
ONE = ("env=dummy_counter", "env.obs=proprio", "env.num_envs=2", "run_dir=run", "trainer.eval_every=0")
TWO = (*ONE, "trainer.devices=2")
ENDLESS = ("trainer.max_steps=1e9", "trainer.compile=off", "trainer.checkpoint_minutes=0.02")

HASTY = ("env.step_timeout=5", "trainer.rank_timeout=40")


def weights(checkpoint):
    return checkpoint["state_dict"]


def test_a_run_of_two_counts_as_one_of_one_and_goes_on_with_two_or_one(finish, tmp_path, run_directory):
    run = run_directory(tmp_path / "run")
    whole = run_directory(tmp_path / "whole")
    code, out, err = finish(*TWO, "trainer.max_steps=640", "run_dir=whole")
    assert code == 0, err
    alone = run_directory(tmp_path / "alone")
    assert finish(*ONE, "trainer.max_steps=640", "run_dir=alone")[0] == 0
    for key in ("env_steps", "updates"):
        assert whole.checkpoint["dreamer"][key] == alone.checkpoint["dreamer"][key]
    assert [row["return"] for row in whole.returns] == [row["return"] for row in alone.returns]

    assert finish(*TWO, "trainer.max_steps=320")[0] == 0
    assert {path.name for path in run.path.glob("replay*")} == {"replay_0_of_2", "replay_1_of_2"}
    code, out, err = finish(*TWO, "trainer.max_steps=640")
    assert code == 0 and out.count("resume ") == 1, out + err
    assert all(torch.equal(value, weights(whole.checkpoint)[key]) for key, value in weights(run.checkpoint).items())

    code, out, err = finish(*ONE, "trainer.max_steps=960")
    assert code == 0 and "1 for 2: environments and their rows are shared out anew" in out, out + err
    assert run.checkpoint["dreamer"]["env_steps"] == 960 and "other_ranks" not in run.checkpoint["dreamer"]
    rows = sum(run.checkpoint["dreamer"]["dataset"]["replay"]["next"])
    assert rows == run.checkpoint["dreamer"]["dataset"]["collector"]["stepper"]["policy_steps"]
    code, out, err = finish(*TWO, "trainer.max_steps=1280")
    assert code == 0 and "2 for 1" in out, out + err
    assert finish(*TWO, "trainer.max_steps=1440")[0] == 0
    assert {path.name for path in run.path.glob("replay*")} == {"replay_0_of_2", "replay_1_of_2"}
    steps = [row["env_step"] for row in run.returns]
    assert steps == sorted(steps) and steps[-1] <= 1440 and len(steps) > 10


def others(process):
    """The processes that a run has started, without those of environments."""
    return [child for child in psutil.Process(process.pid).children() if "train.py" in " ".join(child.cmdline())]


def test_a_signal_to_one_rank_stops_all_with_a_checkpoint(start, wait_until, tmp_path, finish, run_directory):
    process = start(*TWO, *ENDLESS)
    wait_until(process, lambda: len(run_directory(tmp_path / "run").returns) > 6)
    (other,) = others(process)
    other.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM and "Stopped at environment step" in out, out + err
    assert not other.is_running() and not err, err
    step = run_directory(tmp_path / "run").checkpoint["dreamer"]["env_steps"]
    code, out, err = finish(*TWO, f"trainer.max_steps={step + 80}")
    assert code == 0 and f"at environment step {step:,}" in out, out + err


@pytest.mark.parametrize(("number", "words"), [(signal.SIGKILL, ()), (signal.SIGSTOP, HASTY)])
def test_a_rank_that_dies_or_hangs_ends_the_run_in_words(start, wait_until, tmp_path, run_directory, number, words):
    run = run_directory(tmp_path / "run")
    process = start(*TWO, *ENDLESS, *words)
    wait_until(process, lambda: (run.path / "checkpoints" / "previous.ckpt").is_file())
    (other,) = others(process)
    other.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1, out + err
    assert "Another process of this run has ended, or has not answered within trainer.rank_timeout" in err
    assert re.search(r"the checkpoint of environment step [\d,]+ stays", err) and "Traceback" not in err, err
    assert ("rank 1 was ended by signal 9" in err) == (number == signal.SIGKILL), err
    assert not other.is_running()
    assert run.checkpoint["dreamer"]["env_steps"] > 0


def test_the_death_of_the_first_rank_leaves_no_process_behind(start, wait_until, tmp_path, run_directory):
    process = start(*TWO, *ENDLESS)
    wait_until(process, lambda: len(run_directory(tmp_path / "run").returns) > 2)
    (other,) = others(process)
    process.kill()
    other.wait(60)
    assert not other.is_running()


def test_what_one_rank_refuses_ends_all_before_anything_is_made(finish, tmp_path):
    code, out, err = finish(*TWO, "trainer.device=cuda")
    assert code == 2 and not out and err.count("error: trainer.device=cuda is not available") == 1, out + err
    assert not (tmp_path / "run").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finish_both(directory: Path, commands: list[list[str]], variables: list[dict[str, str]]) -> list[tuple[str, str]]:
    """What two processes that belong together say, once both have come to their end."""
    both = [
        subprocess.Popen(
            [sys.executable, *command], cwd=directory, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", **own},
        )
        for command, own in zip(commands, variables, strict=True)
    ]  # fmt: skip
    try:
        said = [process.communicate(timeout=240) for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0], said
    return said


def test_two_machines_by_torchrun(tmp_path, run_directory):
    """Two of its agents on this one, with a process each."""
    port, words = free_port(), ("debug=tiny", "trainer.threads=1", *ONE, "trainer.num_nodes=2", "trainer.max_steps=400")
    agents = [
        ["-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1",
         "--master-addr=127.0.0.1", f"--master-port={port}", str(ROOT / "train.py"), *words]
        for node in (0, 1)
    ]  # fmt: skip
    said = finish_both(tmp_path, agents, [{}, {}])
    assert "Finished at environment step 400" in said[0][0] and not said[1][0], said
    assert run_directory(tmp_path / "run").checkpoint["dreamer"]["env_steps"] == 400


def test_srun_gives_each_process_its_rank(tmp_path, run_directory):
    """What srun sets, set by hand."""
    port, words = free_port(), ("debug=tiny", "trainer.threads=1", *TWO, "trainer.max_steps=400")
    slurm = {
        "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_NODEID": "0",
        "SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "walker", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NODELIST": "127.0.0.1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    places = [{**slurm, "SLURM_PROCID": task, "SLURM_LOCALID": task} for task in ("0", "1")]
    finish_both(tmp_path, [[str(ROOT / "train.py"), *words]] * 2, places)
    assert run_directory(tmp_path / "run").checkpoint["dreamer"]["env_steps"] == 400

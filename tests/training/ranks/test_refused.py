"""What cannot be shared out among processes is refused by name, before one of them is started."""

from __future__ import annotations

import os
import socket
import sys
from unittest.mock import MagicMock, Mock

import psutil
import pytest

from dreamer.training.ranks.group import check_started, find_environment, interface_to, join

TWO = ("trainer.devices=2", "env.num_envs=2")
TORCHRUN = {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("batch_size=3",), "trainer.devices=2: batch_size=3, of all processes together, must be a multiple of 2"),
        (("env.num_envs=1",), "env.num_envs=1, of all processes together, must be a multiple of 2; try env.num_envs=2"),
        (("trainer.rank_timeout=20",), "trainer.rank_timeout=20 must be above env.step_timeout=300"),
        (("trainer.device=mps",), "trainer.devices=2 cannot be with trainer.device=mps"),
    ],
)
def test_keys_that_do_not_fit(tiny, words, said):
    with pytest.raises(ValueError) as refused:
        tiny(*TWO, *words)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("variables", "words", "said"),
    [
        ({}, ("trainer.num_nodes=2", "env.num_envs=4"), "set NODE_RANK (0 to 1), MASTER_ADDR (of node 0) and MASTER_P"),
        (
            TORCHRUN,
            (),
            "torchrun has started 4 processes, 2 on this machine; give trainer.devices=2 trainer.num_nodes=2",
        ),
        (TORCHRUN, ("trainer.num_nodes=2", "env.num_envs=4"), None),
        ({"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, ("trainer.num_nodes=2", "env.num_envs=4"), None),
        ({"SLURM_STEP_NUM_TASKS": "2"}, (), "srun: You set `--ntasks=2`"),
    ],
)
def test_what_was_started_must_be_what_the_keys_say(tiny, monkeypatch, variables, words, said):
    if "SLURM_STEP_NUM_TASKS" in variables:
        variables = {**variables, "SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = tiny(*TWO, *words)
    if said is None:
        check_started(config.trainer, find_environment())
        return
    with pytest.raises(ValueError) as refused:
        check_started(config.trainer, find_environment())
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit(3)", "rank 1 ended with status 3"),
        ("import time; time.sleep(60)", "some did not come within trainer.rank_timeout=4 seconds"),
    ],
)
def test_a_rank_that_does_not_come_is_waited_for_no_longer_than_it_lives(tiny, tmp_path, monkeypatch, script, said):
    path = tmp_path / "train.py"
    path.write_text(script)
    monkeypatch.setattr(sys, "argv", [str(path)])
    if "sleep" in script:
        monkeypatch.setattr("dreamer.training.ranks.children.PATIENCE", 1.0)  # for its end
    variables = dict(os.environ)
    config = tiny(*TWO, "trainer.device=cpu", "env.step_timeout=1", "trainer.rank_timeout=4")
    with pytest.raises(
        ValueError,
        match=rf"^trainer.devices=2 trainer.num_nodes=1: the 2 processes did not meet at 127.0.0.1:\d+: {said}.$",
    ):
        join(config.trainer, [])
    assert dict(os.environ) == variables


def test_the_interface_that_leads_to_a_host(monkeypatch):
    assert interface_to("127.0.0.1") is None and interface_to("") is None
    address = Mock(address="10.1.2.3")
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {"lo": [Mock(address="127.0.0.1")], "eth7": [address]})
    monkeypatch.setattr(socket, "socket", MagicMock())
    socket.socket.return_value.__enter__.return_value.getsockname.return_value = ("10.1.2.3", 5)
    assert interface_to("10.1.2.9") == "eth7"

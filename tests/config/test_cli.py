"""Whose fault an error is decides how it is shown: a program like train.py that fails where `seed` says."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import hydra
from dreamer.cli import job_config, refusing_bad_input, run
from dreamer.config.compose import parse, register

register()


@hydra.main(version_base=None, config_path={conf!r}, config_name="config")
def main(cfg):
    with refusing_bad_input():
        config = parse(job_config(cfg))
        if config.seed == 1:
            raise ValueError("seed=1 brings bad luck; try 2.")
    if config.seed == 3:
        raise ValueError("a fault of ours")
    print("trained in", config.run_dir)


run(main)
"""


@pytest.fixture
def program(tmp_path, request):
    root = request.config.rootpath
    (tmp_path / "program.py").write_text(PROGRAM.format(conf=str(root / "conf")))

    def program(*words: str, **environment: str):
        variables = os.environ | {"PYTHONPATH": str(root)} | environment
        command = [sys.executable, "program.py", *words]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=60)

    return program


def test_value_error_before_training_is_one_line(program):
    result = program("seed=1")
    assert (result.returncode, result.stderr) == (2, "error: seed=1 brings bad luck; try 2.\n")


def test_value_error_during_training_keeps_its_traceback(program):
    result = program("seed=3")
    assert result.returncode == 1
    assert "Traceback" in result.stderr and result.stderr.endswith("ValueError: a fault of ours\n")


def test_traceback_behind_a_line_is_shown_on_request(program):
    assert "Traceback" in program("seed=1", HYDRA_FULL_ERROR="1").stderr


def test_jobs_of_a_multirun_have_directories_and_errors_of_their_own(program, tmp_path):
    result = program("-m", "run_dir=sweep", "seed=0,1,2,3")
    sweep = tmp_path / "sweep"
    assert result.returncode == 2 and result.stderr.rstrip().endswith("error: seed=1 brings bad luck; try 2.")
    for job in "02":
        assert f"trained in {sweep / job}\n" in result.stdout
        assert not list((sweep / job).iterdir())
    assert (sweep / "1" / "error.txt").read_text() == "seed=1 brings bad luck; try 2.\n"
    fault = (sweep / "3" / "error.txt").read_text()
    assert fault.startswith("Traceback") and fault.endswith("ValueError: a fault of ours\n")


@pytest.mark.parametrize("words", [("-m", "seed=0,2", "resume=never"), ("resume=never", "-m", "seed=0,2")])
def test_multirun_flag_may_stand_anywhere(program, tmp_path, words):
    result = program(*words, f"run_dir={tmp_path / 'sweep'}")
    assert result.returncode == 0, result.stderr
    assert [line.split()[-1] for line in result.stdout.splitlines()] == [str(tmp_path / "sweep" / n) for n in "01"]

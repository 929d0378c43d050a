"""The commands of the documents: their words are those of the program, and those of the first hour run."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from doc_pages import PAGES, ROOT, blocks, commands
from hydra import compose, initialize_config_dir

from dreamer.config.compose import parse, register
from dreamer.training.run import prepare

FIRST_HOUR = ROOT / "docs" / "first-hour.md"
RUNS = [ROOT / "results" / "walker_walk_state" / f"seed{seed}" / "returns.csv" for seed in range(3)]
MADE_BY_THE_PAGE = ("explore=sway", "my_robot.", "my_package.")  # tests of their own run these


def split(command: str) -> tuple[str, list[str]]:
    """The program of `python program words`, and its words."""
    _, program, *words = shlex.split(command)
    return program, words


def known_words() -> dict[str, str]:
    """The commands that call train.py or a script of ours with words for Hydra, each with a page where it stands."""
    ours = re.compile(r"python (train|scripts/(?!stage_docs))")
    found = {command: page.name for page in PAGES for command in commands(page) if ours.match(command)}
    return {
        command: page
        for command, page in found.items()
        if not any(word in command for word in (*MADE_BY_THE_PAGE, "--config-dir"))
    }


@pytest.mark.parametrize("command, page", known_words().items(), ids=lambda text: text)
def test_words_of_commands_are_known(command: str, page: str):
    program, words = split(command)
    assert (ROOT / program).exists(), page
    # A sweep is one run for each value; what begins with a dash is Hydra's own.
    words = [re.sub(r"^([\w.]+=)([^\[{,]+),.*", r"\1\2", word) for word in words if not word.startswith("-")]
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        if program == "train.py":
            parse(compose("config", overrides=["run_dir=runs/test", *words]))
        else:
            script = importlib.import_module(Path(program).stem)  # registers its schema
            own = [field.name for field in fields(script.Options)] if hasattr(script, "Options") else []
            compose(Path(program).stem, overrides=[word for word in words if word.partition("=")[0] not in own])


def test_the_table_of_the_first_hour_is_that_of_its_runs():
    rows = re.findall(
        r"^\| (?:to )?(\d+) \| (?:([\d,]+) )?to ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \|",
        FIRST_HOUR.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert len(rows) == 8
    for seed, path in enumerate(RUNS):
        env_step, seconds, ret, _ = np.loadtxt(path, delimiter=",", skiprows=1).T
        for minute, low, high, *means in rows:
            first, last = int(low.replace(",", "") or 0), int(high.replace(",", ""))
            inside = (env_step > first) & (env_step <= last)
            assert round(ret[inside].mean()) == int(means[seed]), (seed, low, high)
            assert abs(seconds[inside].max() / 60 - int(minute)) < 1.5, (seed, minute)


@pytest.mark.slow
def test_a_run_begins_with_the_lines_of_the_page(composed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (command,) = [command for command in commands(FIRST_HOUR) if "trainer.max_steps=2e5" in command]
    prepare(parse(composed(*split(command)[1], "trainer.threads=1", "trainer.device=cpu", "trainer.compile=on")))
    printed = capsys.readouterr().out
    (lines,) = blocks(FIRST_HOUR, "text")
    for line in lines.splitlines():
        assert line in printed


@pytest.mark.slow
def test_the_agent_of_the_first_hour_plays(tmp_path):
    (command,) = [command for command in commands(FIRST_HOUR) if "checkpoint=results" in command]
    program, words = split(command)
    words = [f"video={tmp_path / 'walk.gif'}" if word.startswith("video=") else word for word in words]
    subprocess.run([sys.executable, program, *words, "episodes=1"], cwd=ROOT, check=True)
    assert (tmp_path / "walk.gif").stat().st_size > 10_000

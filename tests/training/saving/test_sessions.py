"""sessions.jsonl: a line a start, whatever became of the one before."""

from __future__ import annotations

import json
import subprocess

import pytest

from dreamer.training.saving import sessions
from dreamer.training.saving.sessions import SESSIONS_FILE, add_session, commit


def test_each_start_adds_a_line_and_half_a_line_is_dropped(tmp_path):
    add_session(tmp_path, 0, "cpu", 2)
    path = tmp_path / SESSIONS_FILE
    path.write_bytes(path.read_bytes() + b'{"started": "2026')
    add_session(tmp_path, 1200, "NVIDIA H200", 4)
    first, second = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    assert (first["env_step"], first["device"], first["threads"]) == (0, "cpu", 2)
    assert (second["env_step"], second["device"], second["threads"]) == (1200, "NVIDIA H200", 4)
    assert first["cpu"] and first["versions"]["torch"]


def git(*words, cwd):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *identity, *words], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    (tmp_path / "dreamer").mkdir()
    (tmp_path / "dreamer" / "code.py").write_text("one\n")
    git("init", "-q", cwd=tmp_path)
    git("add", "-A", cwd=tmp_path)
    git("commit", "-qm", "first", cwd=tmp_path)
    monkeypatch.setattr(sessions, "ROOT", tmp_path)
    return tmp_path


def test_the_commit_is_that_of_the_code_and_says_where_code_differs_from_it(repository):
    head = git("rev-parse", "HEAD", cwd=repository)
    (repository / "notes.txt").write_text("no code\n")
    assert commit() == head
    (repository / "dreamer" / "code.py").write_text("two\n")
    assert commit() == f"{head}-dirty"


def test_a_copy_inside_of_another_repository_has_no_commit(repository, monkeypatch):
    monkeypatch.setattr(sessions, "ROOT", repository / "dreamer")
    assert commit() is None


def test_a_machine_without_the_programs_that_tell_is_no_fault(repository, monkeypatch):
    monkeypatch.setenv("PATH", str(repository))
    assert commit() is None
    monkeypatch.setattr(sessions.sys, "platform", "darwin")
    assert sessions.cpu_name()

"""sessions.jsonl: a line a start, whatever became of the one before."""

from __future__ import annotations

import json

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
    assert first["cpu"] and first["versions"]["torch"] and first["commit"] == commit()


def test_a_copy_inside_of_another_repository_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(sessions, "ROOT", tmp_path)
    assert commit() is None

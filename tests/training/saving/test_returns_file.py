"""returns.csv: what a resume drops, and what is told of a damaged one."""

from __future__ import annotations

import pytest

from dreamer.training.saving.returns_file import append_return, trim_returns


def test_returns_beyond_the_checkpoint_are_dropped(tmp_path):
    file = tmp_path / "returns.csv"
    trim_returns(file, 100)
    assert not file.exists()
    for step in (40, 80, 120):
        append_return(file, step, 1.25, 0.5, 7)
    trim_returns(file, 80)
    append_return(file, 90, 2.0, 1.0, 7)
    assert file.read_text().splitlines() == [
        "env_step,wall_seconds,return,length", "40,1.2,0.5000,7", "80,1.2,0.5000,7", "90,2.0,1.0000,7",
    ]  # fmt: skip


def test_returns_torn_by_a_kill_or_empty_do_not_stop_a_resume(tmp_path):
    file = tmp_path / "returns.csv"
    append_return(file, 40, 1.0, 0.5, 7)
    whole = file.read_text()
    for torn in ("80,2", "80", "80,2.0,0.5", ""):
        file.write_text(whole + torn)
        trim_returns(file, 100)
        assert file.read_text() == whole
    file.write_text("")
    trim_returns(file, 100)
    append_return(file, 40, 1.0, 0.5, 7)
    assert file.read_text() == whole


DAMAGED = {
    "": "line 3 is blank",
    "80,2.0": "line 3 has 2 of 4 values",
    "80,2.0,x,7": "line 3 holds something that is no number",
    "\0\0\0": "line 3 has 1 of 4 values",
}


@pytest.mark.parametrize("line", DAMAGED)
def test_damaged_line_of_returns_is_named_and_the_file_kept(tmp_path, capsys, line):
    file, copies = tmp_path / "returns.csv", []
    for name in ("returns.csv.damaged", "returns.csv.damaged2"):
        whole = "env_step,wall_seconds,return,length\n40,1.0,0.5,7\n"
        file.write_text(f"{whole}{line}\n120,3.0,0.5,7\n160,4.0,0.5,7\n")
        copies.append(file.read_text())
        trim_returns(file, 120)
        out = capsys.readouterr().out
        assert f"{file} is damaged: {DAMAGED[line]}" in out and name in out and out.count("\n") == 1
        assert file.read_text() == f"{whole}120,3.0,0.5,7\n"
        assert (tmp_path / name).read_text() == copies[-1]


def test_damaged_header_of_returns_is_named(tmp_path, capsys):
    file = tmp_path / "returns.csv"
    file.write_bytes(b"env_stup,wall_seconds,return,length\r\n40,1.0,\xff,7\r\n80,2.0,0.5,7\r\n")
    trim_returns(file, 120)
    assert "is damaged: line 1 is 'env_stup," in capsys.readouterr().out
    assert file.read_text() == "env_step,wall_seconds,return,length\n80,2.0,0.5,7\n"

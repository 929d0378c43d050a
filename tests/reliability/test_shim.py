"""The shim does what the tests beside it rely on: it counts, kills, halves and refuses at the call it was told."""

from __future__ import annotations

import pytest

# Five calls below `place`: three writes, of which the second one is two parts at once, fsync and rename.
PROGRAM = """
import os, sys
from pathlib import Path
from shim import Shim
place, point, mode = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
(place / "inside").mkdir()
shim, refused = Shim(), []
shim.arm(place / "inside", point, mode)
(place / "outside").write_text("not counted")
file = os.open(place / "inside" / "old", os.O_WRONLY | os.O_CREAT)
for call in (
    lambda: os.write(file, b"abcd"), lambda: os.writev(file, [b"efg", b"h"]), lambda: os.fsync(file),
    lambda: os.pwrite(file, b"ABCD", 0), lambda: os.rename(place / "inside" / "old", place / "inside" / "new"),
):
    try:
        call()
        refused.append("")
    except OSError as error:
        refused.append(os.strerror(error.errno))
print(shim.disarm(), refused.count("No space left on device"), refused.count(""))
"""


@pytest.fixture
def run(preloaded, tmp_path):
    def run(point: int, mode: str) -> tuple[int, str, dict[str, bytes]]:
        done = preloaded("-c", PROGRAM, str(tmp_path), str(point), mode)
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout.strip(), {path.name: path.read_bytes() for path in tmp_path.glob("*/*")}

    return run


def test_calls_below_the_directory_are_counted_and_go_through(run):
    assert run(3, "count") == (0, "5 0 5", {"new": b"ABCDefgh"})


@pytest.mark.parametrize(
    ("point", "mode", "held"),
    [
        (1, "kill", {"old": b""}),
        (2, "kill", {"old": b"abcd"}),
        (4, "kill", {"old": b"abcdefgh"}),
        (5, "kill", {"old": b"ABCDefgh"}),
        (1, "half", {"old": b"ab"}),
        (2, "half", {"old": b"abcdef"}),
        (4, "half", {"old": b"ABcdefgh"}),
    ],
)
def test_a_process_is_killed_before_a_call_or_in_the_middle_of_it(run, point, mode, held):
    assert run(point, mode) == (-9, "", held)


@pytest.mark.parametrize(
    ("point", "refused", "held"),
    [
        (1, 3, {"new": b""}),  # a full disk has room for no write, but can wait for what it has, and rename
        (3, 2, {"new": b"abcdefgh"}),  # the call at which it fills fails, whatever it is
        (5, 1, {"old": b"ABCDefgh"}),
    ],
)
def test_a_full_disk_refuses_what_needs_room_from_one_call_on(run, point, refused, held):
    assert run(point, "full") == (0, f"5 {refused} {5 - refused}", held)

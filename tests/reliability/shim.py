"""Loads crash.c: what a process does to the files below a directory, counted, and cut off at the n-th call."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("crash.c")
MODES = {"count": 0, "kill": 1, "half": 2, "full": 3}  # the enum of crash.c
WRITES = ("write", "writev", "pwrite", "sendfile")  # calls that can be done by half


def why_not() -> str | None:
    """The reason why the shim cannot be used on this machine, if there is one."""
    if sys.platform != "linux":
        return "the shim stands before the calls of Linux's libc"
    return None if shutil.which("cc") else "there is no C compiler (cc)"


def build(directory: Path) -> Path:
    """The compiled shim, for LD_PRELOAD."""
    library = directory / "crash.so"
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run([*command, "-ldl", "-lpthread"], check=True)
    return library


class Shim:
    """The shim of this process, which must have been started with LD_PRELOAD=<library>."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL(None)  # of the symbols that are loaded already
        self.library.crash_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        self.library.crash_disarm.restype = ctypes.c_long

    def arm(self, directory: Path, point: int, mode: str, journal: int = -1) -> None:
        """Count from 1 from now on; each call becomes a line of the open file `journal`.

        kill: before the call of number `point`; half: after half of what it writes; full: that call, and all that needs
        room after it, fail as on a full disk.
        """
        self.library.crash_arm(bytes(directory), point, MODES[mode], journal)

    def disarm(self) -> int:
        """Leave the process alone again; returns how many calls there were."""
        return self.library.crash_disarm()

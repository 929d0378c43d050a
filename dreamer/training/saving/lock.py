"""One process for each run directory."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

LOCK_FILE = ".lock"
HOLDER_FILE = ".lock_holder"  # beside the lock, which some versions of filelock empty when they ask for it


class RunLock:
    """Holds a run directory from here to `release`, to the end of the process at the latest.

    The system lets go of the lock of a process that is gone, however it ended, so nothing has to be cleared away.
    ValueError where another process holds it, with what is known of that one.
    """

    def __init__(self, run_dir: Path) -> None:
        self.holder = run_dir / HOLDER_FILE
        self.lock = FileLock(run_dir / LOCK_FILE, timeout=0, thread_local=False)
        try:
            self.lock.acquire()
        except Timeout:
            raise ValueError(
                f"run_dir={run_dir} is in use by {read_holder(self.holder)}; "
                "wait for its end, or choose another run_dir. Nothing was changed."
            ) from None
        except OSError as error:
            raise ValueError(f"run_dir={run_dir} cannot be locked for this process: {error}.") from error
        with suppress(OSError):  # a full disk, say, which concerns the run but not the lock
            self.holder.write_text(json.dumps(describe_process()), encoding="utf-8")

    def release(self) -> None:
        if self.lock.is_locked:
            with suppress(OSError):
                self.holder.unlink(missing_ok=True)
            self.lock.release()


def describe_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.orig_argv),
    }


def read_holder(path: Path) -> str:
    """Who holds the lock. For a moment after it was taken, the file is missing or tells of a process that is gone."""
    for _ in range(20):
        try:
            holder = json.loads(path.read_text(encoding="utf-8"))
            is_here = holder["host"] == socket.gethostname()
            if not is_here or psutil.pid_exists(holder["pid"]):
                return "process {pid} on {host} since {since} ({command})".format(**holder)
        except (OSError, ValueError, KeyError, TypeError):
            pass
        time.sleep(0.05)
    return "another process, which has not said yet which one it is"

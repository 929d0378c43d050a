"""What ends a run before its time: signals, and errors in words."""

from __future__ import annotations

import signal

SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK")
    if hasattr(signal, name)
)
"""Those by which a run is stopped: Ctrl-C, and what terminals and schedulers send (SLURM warns by SIGUSR1, submitit has
it warn by SIGUSR2, before the time of a job is over). All processes of a run get them; environments do not mind."""


class RunStopped(Exception):
    """Something outside of this program ends the run; its message is all that a user has to read.

    Whoever catches it saves what can be saved. Wrong input is a ValueError instead; a fault of ours keeps its
    traceback.
    """


class JobStopped(RunStopped):
    """A sweep, or one job of it, was asked to stop; nothing is wrong with it."""

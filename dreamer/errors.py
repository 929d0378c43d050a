"""Errors that end a run in words."""

from __future__ import annotations


class RunStopped(Exception):
    """Something outside of this program ends the run; its message is all that a user has to read.

    Whoever catches it saves what can be saved. Wrong input is a ValueError instead; a fault of ours keeps its
    traceback.
    """


class JobStopped(RunStopped):
    """A sweep, or one job of it, was asked to stop; nothing is wrong with it."""

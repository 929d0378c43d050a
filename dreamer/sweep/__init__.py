"""Sweeps: what a job's directory tells of it, when a job ends early, and the table at the end (docs/sweeps.md)."""

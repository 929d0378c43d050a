"""Measurements as lines of a table."""

from __future__ import annotations

from typing import Any

Entry = dict[str, Any]
HEADLINE = ("seconds", "frames_per_second", "policy_steps_per_second", "cpu_seconds", "threads")


def section(entries: dict[str, Entry]) -> Entry:
    """The entries by name, and beside them the main numbers of the first."""
    first = next(iter(entries.values()))
    return {**{key: first[key] for key in HEADLINE if key in first}, **entries}


def header() -> str:
    return f"{'what':11} {'':21} {'median':>12} {'CPU':>12}  threads  notes"


def describe(value: Any) -> str:
    """A value of the report's head in one line."""
    return ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def lines(what: str, name: str, entry: Entry) -> list[str]:
    """The line of an entry, and for an update a second one with its phases."""
    speed = entry.get("frames_per_second") or entry.get("policy_steps_per_second")
    median = f"{speed:.3g} /s" if speed else duration(entry["seconds"])
    cpu = duration(entry["cpu_seconds"])
    shown = f"{what:11} {name:21} {median:>12} {cpu:>12}  {entry['threads']:7}  {notes(what, entry)}".rstrip()
    if "phases" not in entry:
        return [shown]
    return [shown, f"{'':34}{', '.join(f'{key} {duration(value)}' for key, value in entry['phases'].items())}"]


def notes(what: str, entry: Entry) -> str:
    if what == "update":
        memory = f", peak memory {entry['peak_memory_gb']:.2f} GB" if "peak_memory_gb" in entry else ""
        return (
            f"{entry['batch_size']} x {entry['batch_length']}, {entry['imagined_starts']} starts, "
            f"{entry['precision']}{speedups(entry)}; "
            f"{entry['gflop']:.3g} GFLOP at {entry['gflop_per_second']:.0f} GFLOP/s are "
            f"{duration(entry['limit_seconds'])}: {entry['times_limit']:.1f} times the limit{memory}"
        )
    if what == "policy":
        return f"{entry['precision']}{speedups(entry)}"
    if what == "collect":
        return f"policy steps; {entry['num_envs']} of {entry['env']}, env.workers={entry['workers']}"
    if what == "render":
        return f"mean difference {entry['mean_difference']:.3f} of 255, {entry['share_off']:.2%} of pixels off by > 3"
    if what == "end_to_end":
        return (
            f"environment steps; in updates {entry['update_share']:.0%} of the time, "
            f"{entry['updates_per_second']:.2f} a second, {duration(entry['update_seconds'])} each; "
            f"{entry['busy_cores']:.2f} cores busy, overlap {str(entry['overlap']).lower()}, render {entry['render']}"
            f"{speedups(entry)}"
        )
    return f"{entry['steps']:,} steps stored" if what == "replay" else ""


def duration(seconds: float) -> str:
    """Three digits in the unit that suits: 1.23 s, 12.3 ms, 4.56 us."""
    factor, unit = next((pair for pair in ((1, "s"), (1e3, "ms")) if seconds * pair[0] >= 1), (1e6, "us"))
    return f"{seconds * factor:.3g} {unit}"


def speedups(entry: Entry) -> str:
    """What made it faster, to be written after the precision."""
    return f"{', compiled' if entry['is_compiled'] else ''}{', CUDA graph' if entry['is_recorded'] else ''}"

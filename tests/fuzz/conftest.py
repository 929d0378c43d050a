"""The long form (forms.py) takes its time, and says with which seed it can be repeated."""

from __future__ import annotations

import pytest
from forms import CASES, IS_LONG, SEED


def pytest_itemcollected(item: pytest.Item) -> None:
    if IS_LONG and item.path.parent.name == "fuzz":
        item.add_marker(pytest.mark.timeout(0))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if IS_LONG:
        terminalreporter.write_line(f"Fuzzed with FUZZ_CASES={CASES} FUZZ_SEED={SEED}")

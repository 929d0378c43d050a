"""Says with which seed the long forms (forms.py) can be repeated."""

from __future__ import annotations

import pytest
from forms import CASES, SEED


def pytest_report_header(config: pytest.Config) -> str:
    return f"fuzz: FUZZ_SEED={SEED} FUZZ_CASES={CASES}"

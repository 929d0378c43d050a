"""Directories of jobs as sweeps leave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from dreamer.sweep.state import Record


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., Path]:
    """Makes sweep/<number> with episodes, one each 100 environment steps and 36 seconds, of the given returns."""

    def job(number: int, returns: Sequence[float] = (), is_finished: bool = False, overrides: Sequence[str] = ()):
        path = tmp_path / "sweep" / str(number)
        path.mkdir(parents=True)
        lines = [f"{100 * i},{36 * i}.0,{ret},50" for i, ret in enumerate(returns, start=1)]
        if lines:
            (path / "returns.csv").write_text("\n".join(["env_step,wall_seconds,return,length", *lines]) + "\n")
        Record(list(overrides), 100 * len(returns) if is_finished else None).write(path)
        return path

    return job

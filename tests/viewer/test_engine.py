"""dreamer/viewer/engine.py without a server: who is served again, and who is closed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from viewer_pages import until

from dreamer.viewer.engine import MOST_UNSHOWN, Engine, Viewer
from dreamer.viewer.session import Session


@pytest.fixture
def run(make_session: Callable[..., Session]) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def run(close: Callable[[Session], Any] = lambda session: None) -> Engine:
        engines.append(Engine(make_session, close, 2, "counter"))
        engines[-1].start()
        return engines[-1]

    yield run
    assert all(engine.stop() for engine in engines)


def test_a_page_that_showed_all_before_the_next_row_is_due_goes_on(run):
    engine, messages = run(), []
    viewer = Viewer(messages.append)
    assert engine.enter(viewer)
    until(lambda: viewer.session is not None)
    viewer.session.rate = 4.0  # a quarter of a second until the next row: time to show the ones before
    for _ in range(3):
        until(lambda: viewer.unshown == MOST_UNSHOWN)
        before = len(messages)
        for _ in range(MOST_UNSHOWN):
            engine.command(viewer, {"do": "shown"})
        until(lambda before=before: len(messages) > before, seconds=5)
    engine.leave(viewer)


def test_who_leaves_while_another_is_closed_is_closed_too(run):
    closed: list[Session] = []

    def close(session: Session) -> None:
        time.sleep(0.3)
        closed.append(session)

    engine = run(close)
    viewers = [Viewer(lambda message: None) for _ in range(2)]
    for viewer in viewers:
        assert engine.enter(viewer)
    until(lambda: all(viewer.session is not None for viewer in viewers))
    engine.leave(viewers[0])
    time.sleep(0.1)
    engine.leave(viewers[1])
    until(lambda: len(closed) == 2, seconds=5)
    assert all(viewer.session is None for viewer in viewers)

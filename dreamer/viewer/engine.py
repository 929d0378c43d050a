"""One thread that simulates and dreams for all viewers, and the mailboxes between it and their connections.

Simulators, OpenGL and the agent belong to this thread alone. It sends a viewer the next row once the page has shown
the ones before: nothing piles up where a page, a connection or this computer is slow, the dream only goes slower.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any

from dreamer.errors import RunStopped
from dreamer.viewer.film import Film, film_of
from dreamer.viewer.messages import greeting, pack, view
from dreamer.viewer.session import Session

MOST_UNSHOWN = 3  # views that may be under way to a page
MOST_COMMANDS = 200  # that may wait for the engine; a page that sends more is at fault
STOP_SECONDS = 5.0  # for a simulator to come back from a step


class Viewer:
    """A connection. deliver(message) hands it bytes to send, a Film to encode, or None to hang up, from this thread."""

    def __init__(self, deliver: Callable[[bytes | Film | None], None]) -> None:
        self.deliver = deliver
        self.commands: deque[dict[str, Any]] = deque()
        self.session: Session | None = None
        self.unshown = 0
        self.due = 0.0
        self.is_stale = True  # whether the page shows something else than the session


class Engine:
    """Plays the sessions of at most `most_viewers`, each made by `make_session` in the engine's thread.

    close_session(session) frees what it holds.
    """

    def __init__(
        self,
        make_session: Callable[[], Session],
        close_session: Callable[[Session], None],
        most_viewers: int,
        name: str,
        note: str = "",
        action_names: tuple[str, ...] = (),
    ) -> None:
        self._make_session, self._close_session = make_session, close_session
        self.most_viewers, self._about = most_viewers, (name, note, action_names)
        self._viewers: list[Viewer] = []
        self._leaving: list[Viewer] = []
        self._is_stopped = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="dreams", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> bool:
        """End the thread and close all sessions; False where a simulator did not come back in STOP_SECONDS."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify()
        self._thread.join(STOP_SECONDS)
        return not self._thread.is_alive()

    def enter(self, viewer: Viewer) -> bool:
        """False where there is no place left."""
        with self._changed:
            if len(self._viewers) + len(self._leaving) >= self.most_viewers or self._is_stopped:
                return False
            self._viewers.append(viewer)
            self._changed.notify()
            return True

    def leave(self, viewer: Viewer) -> None:
        with self._changed:
            if viewer in self._viewers:
                self._viewers.remove(viewer)
                self._leaving.append(viewer)
                self._changed.notify()

    def command(self, viewer: Viewer, command: dict[str, Any]) -> bool:
        """Hand over a command of the page; False where too many wait already."""
        with self._changed:
            if command.get("do") == "shown":
                viewer.unshown = max(0, viewer.unshown - 1)
            elif len(viewer.commands) >= MOST_COMMANDS:
                return False
            else:
                viewer.commands.append(command)
            self._changed.notify()
            return True

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._has_work():
                    self._changed.wait(self._patience())  # anew each time: what a page shows changes who is due when
                viewers, leaving, is_stopped = list(self._viewers), list(self._leaving), self._is_stopped
            for viewer in [*leaving, *(viewers if is_stopped else [])]:
                self._close(viewer)
            with self._changed:
                self._leaving = [viewer for viewer in self._leaving if viewer not in leaving]
            if is_stopped:
                return
            for viewer in viewers:
                try:
                    self._serve(viewer)
                except (Exception, SystemExit) as error:  # the environment may be anybody's code
                    self._fail(viewer, error)

    def _has_work(self) -> bool:
        now = time.monotonic()
        return bool(self._leaving) or self._is_stopped or any(self._is_due(viewer, now) for viewer in self._viewers)

    def _is_due(self, viewer: Viewer, now: float) -> bool:
        session = viewer.session
        if session is None or viewer.commands:
            return True
        if viewer.unshown >= MOST_UNSHOWN:
            return False
        return viewer.is_stale or (session.is_playing and now >= viewer.due)

    def _patience(self) -> float | None:
        """Seconds until a viewer that plays is due, None where none is."""
        waiting = [
            viewer.due
            for viewer in self._viewers
            if viewer.session is not None and viewer.session.is_playing and viewer.unshown < MOST_UNSHOWN
        ]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _serve(self, viewer: Viewer) -> None:
        """Carry out what its page asks, go on where it is due, and send what there is to see."""
        if viewer.session is None:
            viewer.session = self._make_session()
            viewer.deliver(greeting(viewer.session, *self._about))
        session = viewer.session
        while viewer.commands:
            self._obey(viewer, session, viewer.commands.popleft())
        now = time.monotonic()
        if viewer.unshown >= MOST_UNSHOWN:
            return
        if not viewer.is_stale and session.is_playing and now >= viewer.due:
            viewer.due = max(viewer.due + 1 / session.rate, now)  # what was missed is not made up for
            session.tick()
            viewer.is_stale = True
        if viewer.is_stale:
            with self._changed:
                viewer.unshown += 1
            viewer.is_stale = False
            viewer.deliver(view(session))

    def _obey(self, viewer: Viewer, session: Session, command: dict[str, Any]) -> None:
        if command.get("do") != "save":
            session.handle(command)
            viewer.is_stale = viewer.is_stale or command.get("do") != "act"
            return
        try:
            viewer.deliver(film_of(session))
        except ValueError as error:
            viewer.deliver(pack({"kind": "note", "text": str(error)}, {}))

    def _fail(self, viewer: Viewer, error: BaseException) -> None:
        """Say what happened, and hang up; the other viewers go on."""
        is_ours = not isinstance(error, (ValueError, RunStopped))
        if is_ours:
            traceback.print_exception(error)
        text = f"{error} The terminal shows more." if is_ours else str(error)
        viewer.deliver(pack({"kind": "fault", "text": text}, {}))
        viewer.deliver(None)
        self.leave(viewer)

    def _close(self, viewer: Viewer) -> None:
        if viewer.session is not None:
            self._close_session(viewer.session)
            viewer.session = None
        viewer.deliver(None)

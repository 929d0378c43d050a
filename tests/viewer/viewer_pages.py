"""What tests of the viewer share: a page without a browser, and what it is sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from websockets.sync.client import ClientConnection, connect

from dreamer.viewer.engine import Engine

KEY = "the-key"


class Served(NamedTuple):
    """A server that runs in a thread of this process."""

    url: str
    port: int
    engine: Engine


def unpacked(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    size = int.from_bytes(message[:4], "little")
    header, rest, pictures = json.loads(message[4 : 4 + size]), message[4 + size :], {}
    for name, height, width in header["pictures"]:
        pictures[name] = np.frombuffer(rest[: height * width * 3], np.uint8).reshape(height, width, 3)
        rest = rest[height * width * 3 :]
    assert not rest
    return header, pictures


@contextmanager
def page(served: Served, key: str = KEY, **headers: str | None) -> Iterator[ClientConnection]:
    """Connected as the server's own page would be, or with another origin."""
    origin = headers.pop("origin", f"http://127.0.0.1:{served.port}")
    url = f"ws://127.0.0.1:{served.port}/live?key={key}"
    with connect(url, origin=origin, additional_headers=headers, max_size=None, proxy=None) as socket:
        yield socket


def read(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of this kind; views on the way there are shown at once."""
    while True:
        message = socket.recv(timeout=60)
        assert isinstance(message, bytes)
        size = int.from_bytes(message[:4], "little")
        header = json.loads(message[4 : 4 + size])
        if header["kind"] == "view":
            unpacked(message)
            tell(socket, "shown")
        if header["kind"] == kind:
            return header


def tell(socket: ClientConnection, do: str, **more: Any) -> None:
    socket.send(json.dumps({"do": do, **more}))


def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)

"""The page and its live connection, for this computer alone.

Whoever wants in must come to an address of this computer's (no other name that points here), with the key that the
program printed, and not from a page of somebody else's. The page itself may load and call nothing but this server.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from dreamer.viewer.engine import Engine, Viewer
from dreamer.viewer.film import Film
from dreamer.viewer.messages import pack

ADDRESS = "127.0.0.1"
STATIC = Path(__file__).parent / "static"
MOST_BYTES = 4096  # of a command
LAST_SECONDS = 2  # for connections to close when the program ends
SEND_SECONDS = 30  # until a page that takes nothing is given up


class Guard:
    """Lets in what is addressed to this computer and comes from its own page, and says what pages may do.

    A Host that is another name would be a page of somebody else's whose name was pointed here (DNS rebinding); an
    Origin that is not ours, such a page that calls us. There are no CORS headers, so no other page reads an answer.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        policy = {
            "default-src": "'none'",
            "script-src": "'self'",
            "style-src": "'self'",
            "img-src": "'self'",
            "connect-src": " ".join(["'self'", *(f"ws://{host}" for host in sorted(self._hosts))]),
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        self._headers = {
            "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "cache-control": "no-store",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if not self._is_ours(Headers(scope=scope), is_live=scope["type"] == "websocket"):
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})  # before it is accepted: status 403
            else:
                await PlainTextResponse("This address is not served here.", 403)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in self._headers.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _is_ours(self, headers: Headers, is_live: bool) -> bool:
        host, origin = headers.get("host", ""), headers.get("origin")
        is_navigation = origin is None and not is_live
        return host in self._hosts and (is_navigation or origin == f"http://{host}")


class Live:
    """The live connection of each page: commands in, views out."""

    def __init__(self, engine: Engine, key: str) -> None:
        self._engine, self._key = engine, key

    async def serve(self, socket: WebSocket) -> None:
        given = socket.query_params.get("key", "")
        await socket.accept()
        if not secrets.compare_digest(given.encode(), self._key.encode()):
            await self._refuse(socket, "Open the address that the program printed: it ends in a key.")
            return
        loop, outbox = asyncio.get_running_loop(), asyncio.Queue[bytes | Film | None]()

        def deliver(message: bytes | Film | None) -> None:
            with suppress(RuntimeError):  # the loop has ended, and with it whoever would have read this
                loop.call_soon_threadsafe(outbox.put_nowait, message)

        viewer = Viewer(deliver)
        if not self._engine.enter(viewer):
            most = self._engine.most_viewers
            pages = "1 page is" if most == 1 else f"{most} pages are"
            await self._refuse(socket, f"{pages} open already, as many as may be. Close one, then reload this.")
            return
        try:
            await _first_of(self._send(socket, outbox), self._listen(socket, viewer))
        finally:
            self._engine.leave(viewer)
            with suppress(RuntimeError, WebSocketDisconnect):
                await socket.close()

    async def _send(self, socket: WebSocket, outbox: asyncio.Queue[bytes | Film | None]) -> None:
        """The engine never has more than a few views under way, so this queue stays short."""
        encoding: asyncio.Task[None] | None = None
        while (message := await outbox.get()) is not None:
            if isinstance(message, Film):
                if encoding is None or encoding.done():
                    encoding = asyncio.create_task(self._encode(message, outbox))
                continue
            async with asyncio.timeout(SEND_SECONDS):  # wait_for of Python 3.11 may miss that it is cancelled
                await socket.send_bytes(message)

    async def _encode(self, film: Film, outbox: asyncio.Queue[bytes | Film | None]) -> None:
        """Write a film beside what goes on; one at a time for each page."""
        data = await asyncio.to_thread(film.encode)
        outbox.put_nowait(pack({"kind": "film", "size": len(data)}, {}) + data)

    async def _listen(self, socket: WebSocket, viewer: Viewer) -> None:
        """Hang up on whoever sends what the page does not."""
        while True:
            text = await socket.receive_text()
            try:
                command: Any = json.loads(text)
            except (ValueError, RecursionError):
                return
            if not isinstance(command, dict) or not self._engine.command(viewer, command):
                return

    async def _refuse(self, socket: WebSocket, text: str) -> None:
        with suppress(RuntimeError, WebSocketDisconnect):
            await socket.send_bytes(pack({"kind": "fault", "text": text}, {}))
            await socket.close(1008)


async def _first_of(*parts: Any) -> None:
    """Run both until one of them ends, and end the other."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    expected = (WebSocketDisconnect, asyncio.CancelledError, TimeoutError, RuntimeError)
    for task, result in zip(tasks, results, strict=True):
        if task in done and isinstance(result, BaseException) and not isinstance(result, expected):
            raise result


def listen(port: int) -> socket.socket:
    """A socket of this computer alone; port 0 takes a free one. ValueError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # on Windows it would let another program take the same port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((ADDRESS, port))
    except OSError as error:
        listener.close()
        raise ValueError(f"port={port} cannot be used: {error.strerror}. Leave it out for a free one.") from error
    listener.listen()  # whoever comes before the server runs waits a moment
    return listener


def make_server(engine: Engine, listener: socket.socket, key: str, when_ready: Callable[[], None]) -> uvicorn.Server:
    """A server for `serve`, which calls `when_ready` once it answers."""
    port = listener.getsockname()[1]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        when_ready()
        yield
        await asyncio.to_thread(engine.stop)

    routes = [
        WebSocketRoute("/live", Live(engine, key).serve),
        Mount("/", StaticFiles(directory=STATIC, html=True)),
    ]
    app = Guard(Starlette(routes=routes, lifespan=lifespan), port)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="websockets-sansio", ws_max_size=MOST_BYTES,
        ws_per_message_deflate=False, proxy_headers=False, timeout_graceful_shutdown=LAST_SECONDS, lifespan="on",
    )  # fmt: skip
    return uvicorn.Server(config)


def address(listener: socket.socket, key: str) -> str:
    """What the user opens. The key stands behind the #, so no server and no log is ever sent it with the page."""
    return f"http://{ADDRESS}:{listener.getsockname()[1]}/#{key}"


def new_key() -> str:
    return secrets.token_urlsafe(16)

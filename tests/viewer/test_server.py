"""dreamer/viewer/{server,engine}.py: who gets in, and that viewers who come, go or sleep leave nothing behind."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request

import pytest
from viewer_pages import KEY, Served, page, read, tell, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dreamer.errors import RunStopped
from dreamer.viewer.engine import MOST_COMMANDS, MOST_UNSHOWN, Engine
from dreamer.viewer.session import Session


def get(served: Served, path: str = "/", **headers: str) -> tuple[int, dict[str, str], str]:
    request = urllib.request.Request(f"http://127.0.0.1:{served.port}{path}", headers=headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, dict(answer.headers), answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


def handshake(served: Served, name: str) -> int:
    """The status that a page gets whose address is this name, with the key, from that page's own origin."""
    host = f"{name}:{served.port}"
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    headers = {
        "Host": host, "Origin": f"http://{host}", "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    connection.request("GET", f"/live?key={KEY}", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_the_page_plays_and_takes_commands(serve):
    with page(serve()) as socket:
        assert read(socket, "hello")["num_actions"] == 2
        first = read(socket, "view")
        while read(socket, "view")["at"] < 3:
            pass
        tell(socket, "branch", count=4)
        while (header := read(socket, "view"))["mode"] != "branch":
            pass
        assert first["at"] == 0 and header["step"] == 0
        while read(socket, "view")["step"] < 2:  # one frame is no film
            pass
        tell(socket, "save")
        assert read(socket, "film")["size"] > 100


def test_pages_may_load_and_call_nothing_but_this_server(serve):
    served = serve()
    status, headers, text = get(served)
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert status == 200 and policy["default-src"] == "'none'" and policy["script-src"] == "'self'"
    assert "access-control-allow-origin" not in {name.lower() for name in headers}
    assert KEY not in text, "the page itself holds no key"
    for name in ("page.js", "page.css", "live.js", "history.js", "charts.js", "steering.js", "icon.svg"):
        status, _, text = get(served, f"/{name}")
        assert status == 200 and "http://" not in text.replace("http://www.w3.org/2000/svg", "") and "//cdn" not in text
    assert get(served, "/../engine.py")[0] == 404 and get(served, "/%2e%2e/engine.py")[0] == 404


def test_another_name_for_this_computer_or_another_pages_origin_is_refused(serve):
    served = serve()
    assert get(served, Host=f"evil.example:{served.port}")[0] == 403
    assert get(served, Origin="http://evil.example")[0] == 403
    assert get(served, Host=f"localhost:{served.port}")[0] == 200
    for origin in ("http://evil.example", "null", f"http://127.0.0.1:{served.port + 1}", None):
        with pytest.raises(InvalidStatus, match="403"), page(served, origin=origin):
            pass
    assert handshake(served, "127.0.0.1") == 101
    assert handshake(served, "evil.example") == 403
    until(lambda: not served.engine._viewers)


@pytest.mark.parametrize("key", ["", "another", KEY + "x"])
def test_without_the_key_nobody_gets_in(serve, key):
    served = serve()
    with page(served, key) as socket:
        assert "it ends in a key" in read(socket, "fault")["text"]
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    assert not served.engine._viewers


def test_one_viewer_too_many_is_told_and_gets_in_once_another_has_left(serve):
    served = serve(most_viewers=1)
    with page(served) as first:
        read(first, "view")
        with page(served) as second:
            assert "1 page is open already" in read(second, "fault")["text"]
        read(first, "view")
    until(lambda: not served.engine._viewers and not served.engine._leaving)
    with page(served) as third:
        assert read(third, "view")["at"] == 0


def test_a_page_that_shows_nothing_is_sent_no_more_and_stops_nobody(serve):
    served = serve()
    with page(served) as sleeper, page(served) as other:
        while read(other, "view")["at"] < 12:
            pass
        time.sleep(0.2)
        received = 0
        with pytest.raises(TimeoutError):
            while True:
                sleeper.recv(timeout=0.5)
                received += 1
        assert received == 1 + MOST_UNSHOWN, "the greeting, and a few views"
        tell(sleeper, "shown")
        sleeper.recv(timeout=10)


@pytest.mark.parametrize("text", ["no json", "[1]", json.dumps({"do": "format the disk"}), "[" * 3000, "x" * 9000])
def test_whoever_sends_what_the_page_does_not_is_hung_up_on(serve, text):
    served = serve()
    with page(served) as socket:
        read(socket, "hello")
        socket.send(text)
        with pytest.raises(ConnectionClosed):
            while True:
                socket.recv(timeout=10)
    until(lambda: not served.engine._viewers)


def test_a_flood_of_commands_is_not_kept(serve, monkeypatch):
    def slow_tick(self: Session) -> None:
        time.sleep(0.5)

    monkeypatch.setattr(Session, "tick", slow_tick)
    with page(serve()) as socket, pytest.raises(ConnectionClosed):
        for _ in range(50 * MOST_COMMANDS):
            tell(socket, "pause")
            tell(socket, "play")


def test_a_fault_of_one_viewers_environment_is_told_to_it_and_the_others_go_on(serve):
    def break_second(engine: Engine) -> None:
        make, made = engine._make_session, []

        def make_session() -> Session:
            session = make()
            made.append(session)
            if len(made) == 2:
                session.tick = lambda: (_ for _ in ()).throw(RunStopped("reward is nan in row 3"))
            return session

        engine._make_session = make_session

    served = serve(change=break_second)
    with page(served) as first:
        read(first, "view")
        with page(served) as second:
            assert read(second, "fault")["text"] == "reward is nan in row 3"
        at = read(first, "view")["at"]
        assert read(first, "view")["at"] > at


def test_a_closed_page_closes_its_environment(serve):
    closed = []

    def count(engine: Engine) -> None:
        close = engine._close_session
        engine._close_session = lambda session: (closed.append(session), close(session))

    served = serve(change=count)
    for _ in range(3):
        with page(served) as socket:
            read(socket, "view")
    until(lambda: len(closed) == 3)


def test_a_server_that_ends_hangs_up_and_closes_what_is_open(serve):
    served = serve()
    with page(served) as socket:
        read(socket, "view")
        assert served.engine.stop()
        with pytest.raises(ConnectionClosed):
            while True:
                socket.recv(timeout=10)

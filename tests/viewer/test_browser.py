"""scripts/dream.py in a real browser: it plays, branches, steers and saves, and no request leaves the machine."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from viewer_pages import until

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def start(results: str) -> tuple[subprocess.Popen[str], str]:
    """scripts/dream.py with one of the agents that ship, without a screen to open a browser on, and its address."""
    command = [sys.executable, "scripts/dream.py", f"checkpoint=results/{results}"]
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**environment, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/#\S+", line)
    assert found, line + process.stdout.read()
    return process, found[0]


@pytest.fixture(scope="module")
def dream() -> Iterator[Callable[[str], tuple[subprocess.Popen[str], str]]]:
    """dream(results): scripts/dream.py with one of the agents that ship, and the address it prints."""
    running: dict[str, tuple[subprocess.Popen[str], str]] = {}

    def dream(results: str) -> tuple[subprocess.Popen[str], str]:
        if results not in running:
            running[results] = start(results)
        return running[results]

    yield dream
    for process, _ in running.values():
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, "Ctrl-C ends it, and all that it started"


class Visit:
    """A page, with all that it asked for and complained of."""

    def __init__(self, browser: Browser, url: str, width: int = 1200, scheme: str = "light") -> None:
        height = 900 if width > 500 else 844
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
        )
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type == "error" else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(url)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def place(self) -> int:
        """The frame, or step of the dream, that is shown; -1 before there is one."""
        found = re.match(r"(\d+) of", self.text("#place"))
        return int(found[1]) if found else -1

    def holds(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, (self.text("#status"), self.complaints, self.place())
            self.page.wait_for_timeout(50)

    def colours(self, selector: str) -> int:
        """How many colours a canvas holds: more than a few where something is drawn."""
        return int(self.page.locator(selector).first.evaluate(
            """canvas => new Set(new Uint32Array(canvas.getContext("2d").getImageData(
                0, 0, canvas.width, canvas.height).data.buffer)).size"""
        ))  # fmt: skip


@pytest.fixture
def visit(browser, dream) -> Iterator[Callable[..., Visit]]:
    visits: list[Visit] = []

    def visit(results: str = "walker_walk_pixels", **kwargs) -> Visit:
        visits.append(Visit(browser, dream(results)[1], **kwargs))
        return visits[-1]

    yield visit
    for one in visits:
        one.context.close()


@pytest.mark.timeout(600)
def test_it_opens_plays_branches_steers_and_saves(visit, tmp_path):
    here = visit()
    here.holds(lambda: here.place() >= 5)
    for card in ("#card-real", "#card-reconstruction", "#dreams"):
        assert here.colours(f"{card} canvas") > 100
        assert here.page.locator(f"{card} canvas").first.bounding_box()["width"] >= 240
    assert here.colours("#charts canvas") > 3
    here.page.keyboard.press("Space")
    here.holds(lambda: here.text("#play") == "Play")
    stopped = here.place()
    here.page.keyboard.press("ArrowLeft")
    here.holds(lambda: here.place() == stopped - 1)
    here.page.click("#again")
    here.holds(lambda: here.text("#dream-said") == f"was just shown frame {stopped - 1}")

    here.page.click("#branch")
    here.holds(lambda: here.page.locator("#dreams canvas").count() == 4 and here.place() >= 5)
    here.page.select_option("#count", "9")
    here.holds(lambda: here.page.locator("#dreams canvas").count() == 9 and here.place() >= 3)

    here.page.click("#steer")
    here.holds(lambda: "You act" in here.text("#who") and here.place() >= 2)

    def holds_q() -> bool:
        here.page.keyboard.down("q")  # again and again, as a keyboard repeats a key that is held
        return here.text(".slider output >> nth=0") == "1.00"

    here.holds(holds_q)
    before = here.place()
    here.holds(lambda: here.place() >= before + 3)
    here.page.keyboard.up("q")
    here.holds(lambda: here.text(".slider output >> nth=0") == "0.00")
    pad = here.page.locator(".pad").bounding_box()
    here.page.mouse.move(pad["x"] + pad["width"] * 0.9, pad["y"] + 5)
    here.page.mouse.down()
    here.holds(lambda: float(here.text(".slider output >> nth=3")) > 0.8)
    here.page.mouse.up()
    here.page.click("#hand")
    here.holds(lambda: "The policy acts" in here.text("#who"))
    here.page.keyboard.press("w")
    here.holds(lambda: "You act" in here.text("#who"))

    with here.page.expect_download(timeout=120_000) as download:
        here.page.click("#save")
    download.value.save_as(tmp_path / "steer.gif")
    assert download.value.suggested_filename == "walker_walk_steer.gif"
    with Image.open(io.BytesIO((tmp_path / "steer.gif").read_bytes())) as film:
        assert film.format == "GIF" and getattr(film, "n_frames", 1) > 3
    assert {url.split("/")[2] for url in here.requests if not url.startswith("blob:")} == {here.page.url.split("/")[2]}
    assert not here.complaints


@pytest.mark.timeout(600)
def test_from_state_the_pose_is_drawn_and_every_number_has_a_line(visit):
    here = visit("walker_walk_state", scheme="dark")
    here.holds(lambda: here.place() >= 5)
    for card in ("#card-real", "#card-reconstruction", "#dreams"):
        assert here.colours(f"{card} canvas") > 100
    assert here.page.locator("#vector-lines canvas").count() == 24
    assert here.colours("#vector-lines canvas") > 3
    assert not here.complaints


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mode", ["watch", "branch", "steer"])
def test_on_a_telephone_nothing_is_wider_than_the_screen(visit, mode):
    here = visit(width=390)
    here.holds(lambda: here.place() >= 2)
    here.page.click(f"#{mode}")
    here.holds(lambda: here.page.locator(f"body[data-mode={mode}]").count() == 1)
    assert here.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert all(
        box["height"] >= 32 for box in (item.bounding_box() for item in here.page.locator("button").all()) if box
    )
    assert not here.complaints


@pytest.mark.timeout(600)
def test_another_page_cannot_drive_it(browser, dream):
    url = dream("walker_walk_pixels")[1]
    port, key = re.findall(r":(\d+)/#(\S+)", url)[0]
    other = browser.new_context().new_page()
    other.goto("data:text/html,<title>somebody else's</title>")
    outcome = other.evaluate(
        """([port, key]) => new Promise(done => {
            const socket = new WebSocket(`ws://127.0.0.1:${port}/live?key=${key}`);
            socket.onopen = () => done("open");
            socket.onerror = () => done("refused");
        })""",
        [port, key],
    )
    answer = other.evaluate("port => fetch(`http://127.0.0.1:${port}/`).then(() => 'read', () => 'refused')", port)
    assert (outcome, answer) == ("refused", "refused")
    other.context.close()


@pytest.mark.timeout(600)
def test_without_the_key_the_page_says_what_to_open(browser, dream):
    here = Visit(browser, dream("walker_walk_pixels")[1].split("#")[0])
    here.holds(lambda: "Open the address that the program printed" in here.text("#status"))
    here.context.close()


@pytest.mark.timeout(600)
def test_ctrl_c_ends_it_while_pages_are_open(browser):
    process, url = start("walker_walk_state")
    here = Visit(browser, url)
    here.holds(lambda: here.place() >= 1)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and "Traceback" not in output, output
    until(lambda: "The connection has ended" in here.text("#status"))
    here.context.close()

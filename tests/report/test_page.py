"""The page: what it says of runs, and that nothing in their files becomes more than text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from event_files import GIF
from hydra import compose

from dreamer.config.compose import flat, parse, to_dict
from dreamer.config.defaults import compared
from dreamer.config.schema import Config
from dreamer.report.groups import group
from dreamer.report.page import as_typed, build_page
from dreamer.report.runs import read_runs

NOW = datetime(2026, 12, 1, 12, 0)
EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
WORDS = (
    "html head meta title style body main h1 h2 h3 p nav a div b span small figure figcaption svg path ul li "
    "table thead tbody tr th td code pre img details summary footer script"
)
ELEMENTS = set(WORDS.split())


class Elements(HTMLParser):
    """Names of elements, all attributes, and the text outside of style and script."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [(key, value or "") for key, value in attrs]

    def handle_data(self, data: str) -> None:
        if self.names and self.names[-1] not in ("style", "script"):
            self.text += data


def page_of(*places: Path) -> str:
    runs, left_out = read_runs(list(places))
    return build_page(group(runs), left_out, lambda config: (["env=walker_walk"], {"seed": (0, 1)}), NOW)


def test_seeds_are_summed_up_beside_the_published_figures(make_run, tmp_path):
    for seed, ret in enumerate([100.0, 200.0, 300.0]):
        make_run(f"walker/seed{seed}", {"seed": seed, "env.obs": "proprio"}, [ret] * 100)
    text = Elements(page_of(tmp_path / "walker")).text
    assert "walker_walk from state" in text and "3 runs · seeds 0, 1, 2 · up to 100,000 environment steps" in text
    assert "walker: 3 seeds, interquartile mean, 95 % interval" in text
    assert "200return of training episodes, last tenth; runs 100 to 300" in text
    assert "DreamerV3 (first version), published" in text and "of the paper's first version, of 2023" in text
    assert "Those of TD-MPC2 and SAC are returns of evaluations" in text
    row = re.search(r"walker, 3 runs(\d+)DreamerV3 \(first version\), published(\d+)", text)
    assert row and row.groups() == ("200", "278"), "at 50,000 steps, the only ones that have 25,000 behind them"


def test_everything_is_inside_and_the_page_forbids_itself_the_rest(make_run, log):
    path = make_run("walker")
    log(path, {"loss/dyn": [(1000, 3.0)], "eval_loss/dyn": [(1000, 4.0)], "actor/entropy": [(1000, 1.0)]})
    (path / "videos").mkdir()
    (path / "videos" / "open_loop_image_000001000.gif").write_bytes(GIF)
    page = page_of(path)
    elements = Elements(page)
    assert not re.search(r"https?:|url\(|@import", page)
    sources = [value for key, value in elements.attributes if key in ("src", "href")]
    assert all(source.startswith(("data:image/gif;base64,", "#")) for source in sources)
    assert base64.b64encode(GIF).decode() in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in page
    assert "default-src 'none'" in page
    links = {source[1:] for source in sources if source.startswith("#")}
    assert links <= {value for key, value in elements.attributes if key == "id"}, "each place that is linked to exists"


def test_nothing_that_others_wrote_becomes_more_than_text(make_run, log, tmp_path):
    path = make_run("x<img src=y onerror=z>", {"env.name": EVIL, "env.obs": "vision"})
    log(path, {f"loss/{EVIL}": [(1000, 3.0)], EVIL: [(1000, 3.0)]})
    (path / "sessions.jsonl").write_text(json.dumps({"commit": EVIL, "cpu": [EVIL], "versions": {EVIL: EVIL}}))
    (path / "evaluation.json").write_text(json.dumps({"returns": [1], "env_steps": EVIL}))
    (path / "videos").mkdir()
    (path / "videos" / "open_loop_'onload=alert(1) x='_000000010.gif").write_bytes(GIF)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "error.txt").write_text(EVIL)
    page = page_of(tmp_path)
    elements = Elements(page)
    assert set(elements.names) <= ELEMENTS and elements.names.count("script") == 1
    assert not [key for key, _ in elements.attributes if key.startswith("on")]
    assert page.count("<img") == 1, "the film"
    assert EVIL[:40] in elements.text


def test_a_page_of_runs_that_have_nothing_yet_can_be_built(make_run):
    text = Elements(page_of(make_run("new", returns=[]))).text
    assert "up to 0 environment steps" in text and "nothing yet" in text and "no episode has ended yet" in text
    assert "No losses: the runs have logged nothing yet" in text


def test_films_beyond_the_size_of_a_page_are_left_out_and_of_dreams_the_first_is_shown_too(make_run, monkeypatch):
    path = make_run("walker")
    (path / "videos").mkdir()
    for step in (10, 20, 30):
        (path / "videos" / f"open_loop_image_{step:09d}.gif").write_bytes(GIF)
    text = Elements(page_of(path)).text
    assert "dream of image, step 10" in text and "step 30" in text and "step 20" not in text
    monkeypatch.setattr("dreamer.report.page.MOST_FILM_BYTES", len(GIF))
    assert "step 30" not in Elements(page_of(path)).text


def test_what_was_wrong_stands_at_the_top(make_run, tmp_path):
    path = make_run("run")
    (path / "evaluation.json").write_text("{")
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "error.txt").write_text("ValueError: too bad\n")
    notes = page_of(tmp_path).split('<div class="notes">')[1].split("</div>")[0]
    assert "evaluation.json is not what" in notes and "is left out: failed: ValueError: too bad" in notes


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["env.obs=proprio", "trainer.max_steps=2e5", "model.optim.lr=1e-4"],
        ["env=memory", "model=size1m", "env.kwargs.delay=7"],
        ["env=gymnasium", "env.id=CartPole-v1", "debug=tiny", "seed=3"],
        ["env=atari", "env.game=breakout", "env.kwargs.length=70"],
        ["env=custom", "env.class=a.B", "env.kwargs.text='true'", "env.kwargs.other='my mod, x'"],
    ],
)
def test_the_words_of_a_report_give_the_config_again(with_hydra, words):
    def composed(words: list[str]) -> Config:
        return parse(compose("config", overrides=["run_dir=runs/test", *words]))

    config = composed(words)
    base, differing = compared(config)
    named = {word.partition("=")[0] for word in words} - {word.partition("=")[0] for word in base} - {"seed"}
    assert differing.keys() == named
    again = composed([*base, *(as_typed(key, own) for key, (_, own) in differing.items())])
    assert {**flat(to_dict(again)), "seed": config.seed} == flat(to_dict(config))

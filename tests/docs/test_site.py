"""The documents as a site: every link of the gathered pages leads somewhere, and nothing is asked for outside."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from doc_pages import ROOT
from stage_docs import BESIDE, stage, with_links


def build(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(directory / "zensical.toml")]
    return subprocess.run(command, capture_output=True, text=True)


def in_navigation(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    inside = entry.values() if isinstance(entry, dict) else entry
    assert not isinstance(inside, str)
    return [name for part in inside for name in in_navigation(part)]  # type: ignore[attr-defined]


def test_every_page_is_gathered_and_stands_in_the_navigation(tmp_path):
    stage(ROOT, tmp_path / "site")
    gathered = {page.name for page in (tmp_path / "site" / "pages").glob("*.md")}
    assert gathered == {page.name for page in (ROOT / "docs").glob("*.md")} | set(BESIDE.values())
    named = in_navigation(tomllib.loads((tmp_path / "site" / "zensical.toml").read_text("utf-8"))["project"]["nav"])
    assert sorted(named) == sorted(gathered)


def test_links_of_the_gathered_pages_stay_among_them(tmp_path):
    stage(ROOT, tmp_path / "site")
    pages = tmp_path / "site" / "pages"
    for page in pages.glob("*.md"):
        prose = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", prose):
            assert "://" in target or (pages / target).is_file(), f"{page.name}: {target}"


def test_links_follow_pages_and_code_keeps_its_brackets(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/a.md", "LICENSE"):
        (tmp_path / name).touch()
    pages = {tmp_path / "README.md": "start.md", tmp_path / "docs" / "a.md": "a.md"}
    text = "[x](../README.md#use) [y](../LICENSE) [z](lost.md) ![i](images/i.png) [w](https://a.b/c.md)\n```\n[x](a.md)\n```\n"
    changed = "[x](start.md#use) y [z](lost.md) ![i](images/i.png) [w](https://a.b/c.md)\n```\n[x](a.md)\n```\n"
    assert with_links(text, tmp_path / "docs" / "a.md", pages) == changed
    assert with_links("[`a`](docs/a.md)", tmp_path / "README.md", pages) == "[`a`](a.md)"


@pytest.mark.slow
def test_the_site_builds_and_asks_for_nothing_outside(tmp_path):
    stage(ROOT, tmp_path / "docs")
    result = build(tmp_path / "docs")
    assert result.returncode == 0, result.stdout + result.stderr
    built = list((tmp_path / "docs" / "site").glob("*.html"))
    assert len(built) > len(BESIDE)
    for page in built:
        html = page.read_text("utf-8")
        outside = re.findall(r"<(?:script|img|link|iframe)[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*", html)
        assert not outside, page.name
    for style in (tmp_path / "docs" / "site").rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", style.read_text("utf-8")), style.name


@pytest.mark.slow
@pytest.mark.parametrize("link", ["[a](nowhere.md)", "[a](configuration.md#nowhere)"])
def test_a_link_that_leads_nowhere_ends_the_build(link, tmp_path):
    stage(ROOT, tmp_path / "docs")
    with (tmp_path / "docs" / "pages" / "logging.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    result = build(tmp_path / "docs")
    assert result.returncode != 0 and "does not exist" in result.stdout + result.stderr

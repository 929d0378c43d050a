"""Gather the pages of the documentation site: python scripts/stage_docs.py build/docs

The pages of docs/ and those beside it go into build/docs/pages, with links that fit there, and docs/zensical.toml goes
beside them: what make docs builds the site from.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {
    "README.md": "start.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "results/README.md": "results.md",
}
"""Pages outside docs/, and what they are called on the site."""

LINK = re.compile(r"(!?)\[((?:!\[[^\]]*\]\([^)]*\)|[^\[\]])*)\]\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```\s*?$)", re.MULTILINE | re.DOTALL)


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: python scripts/stage_docs.py DIRECTORY, which is emptied first")
    target = Path(sys.argv[1])
    if target.exists() and not (target / "zensical.toml").exists():
        raise SystemExit(f"{target} exists and was not written by this script; give another directory.")
    shutil.rmtree(target, ignore_errors=True)
    stage(ROOT, target)


def stage(root: Path, target: Path) -> None:
    """Write pages, images, style and zensical.toml of the repository `root` into the new directory `target`."""
    pages = {page: page.name for page in (root / "docs").glob("*.md")}
    pages |= {root / page: name for page, name in BESIDE.items()}
    shutil.copytree(root / "docs" / "images", target / "pages" / "images")
    shutil.copy(root / "docs" / "zensical.toml", target)
    shutil.copy(root / "docs" / "site.css", target / "pages")
    for page, name in pages.items():
        text = with_links(page.read_text(encoding="utf-8"), page, pages)
        (target / "pages" / name).write_text(text, encoding="utf-8")


def with_links(text: str, page: Path, pages: dict[Path, str]) -> str:
    """The text of `page` with links as they are on the site; a link to what is not there leaves its words alone.

    A link that leads nowhere in the repository stays as it is, for the build to complain of.
    """

    def link(found: re.Match[str]) -> str:
        mark, words, address = found.groups()
        name, separator, anchor = address.partition("#")
        if "://" in address or not name:
            return found[0]
        goal = (page.parent / name).resolve()
        if goal in pages:
            return f"{mark}[{words}]({pages[goal]}{separator}{anchor})"
        if goal.parent.name == "images":
            return f"{mark}[{words}](images/{goal.name})"
        return words if goal.exists() else found[0]

    parts = CODE.split(text)  # blocks of code at odd places
    return "".join(part if i % 2 else LINK.sub(link, part) for i, part in enumerate(parts))


if __name__ == "__main__":
    main()

"""What the documents say of keys, defaults, files and names is true of the code."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_pages import PAGES, ROOT
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dreamer.config.bounds import leaves
from dreamer.config.compose import flat, register
from dreamer.config.digest import MAY_CHANGE
from dreamer.config.schema import Config

CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
FILES = [path for path in sorted((ROOT / "conf").glob("*/*.yaml")) if not path.stem.startswith("_")]
OPTIONS = [f"{path.parent.name}={path.stem}" for path in FILES]
SETS = [option for option in OPTIONS if option.startswith(("experiment=", "debug=")) or option == "model=laptop"]
FOLDERS = "dreamer|conf|docs|scripts|tests|results"
THEIRS = {"env.env_num", "model.rep_loss", "replay.size", "trainer.py", "trainer.steps"}
"""Names of other codes, in docs/coming-from.md, that look like ours."""


@pytest.fixture(scope="module")
def defaults() -> dict[str, Any]:
    """What `python train.py` composes, interpolations as they are written."""
    register()
    with initialize_config_dir(str(ROOT / "conf"), version_base=None):
        values = OmegaConf.to_container(compose("config"), resolve=False)
    assert isinstance(values, dict)
    return flat({str(key): value for key, value in values.items()})


def value_of(text: str) -> Any:
    """A cell or a YAML value; YAML itself reads 1e6 as text."""
    value = yaml.safe_load(text)
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return text


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def code_spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(page))


@cache
def defined_names(path: Path) -> frozenset[str]:
    """Functions, classes, their methods, and constants of a Python file."""

    def names(body: list[ast.stmt], prefix: str = "") -> Iterator[str]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node.body, f"{node.name}.")
            if isinstance(node, ast.Assign):
                yield from (prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                yield prefix + node.target.id

    return frozenset(names(ast.parse(path.read_text(encoding="utf-8")).body))


def test_every_key_stands_in_the_tables_with_its_type_and_default(defaults):
    rows = re.findall(r"^\| `([\w.]+)` \| ([\w\[\], ]+) \| `([^`]*)` \|", CONFIGURATION, flags=re.MULTILINE)
    documented = {key: (kind.replace(" or ", " | ").replace("null", "None"), value) for key, kind, value in rows}
    kinds = {key: str(item.type) for key, item, _ in leaves(Config)}
    assert documented.keys() == kinds.keys() == defaults.keys()
    assert {key: kind for key, (kind, _) in documented.items()} == kinds
    assert {key: value_of(value) for key, (_, value) in documented.items()} == defaults


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_every_group_is_mentioned(name):
    assert {f"`{name.partition('=')[2]}`", f"`{name}`"} & set(re.findall(r"`[^`\n]+`", CONFIGURATION))


@pytest.mark.parametrize("name", SETS)
def test_tables_of_experiments_list_what_their_files_set(name):
    group, _, option = name.partition("=")
    values = yaml.safe_load((ROOT / "conf" / group / f"{option}.yaml").read_text(encoding="utf-8"))
    values.pop("defaults", None)
    values = flat({group: values} if group == "model" else values)
    values.pop("model.name" if group == "model" else "", None)
    start = CONFIGURATION.index(f"`{name}` sets:" if group == "model" else f"### `{name}`\n")
    table = CONFIGURATION[start:].split("|---|---|\n", 1)[1].split("\n\n", 1)[0]
    listed = {key: value_of(value) for key, value in re.findall(r"\| `([\w.]+)` \| `(.*)` \|", table)}
    assert listed == {key: value_of(str(value)) if isinstance(value, str) else value for key, value in values.items()}


def test_keys_that_may_change_on_resume_are_all_listed():
    section = CONFIGURATION.split("### Resume", 1)[1].split("\n## ", 1)[0]
    listed = section.split("differ from the first start:", 1)[1].split("Any other", 1)[0]
    assert set(re.findall(r"`([^`]+)`", listed)) == set(MAY_CHANGE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_written_in_prose_exist(page, defaults):
    groups = {key.rpartition(".")[0] for key in defaults}
    for span in code_spans(page):
        if found := re.fullmatch(r"((?:env|model|trainer|replay|logger)\.[a-z_0-9.]+)(?:=.*)?", span):
            is_own = found[1].startswith("env.kwargs.")  # what the environment takes
            is_theirs = page.name == "coming-from.md" and found[1] in THEIRS
            assert is_own or is_theirs or found[1] in defaults or found[1] in groups, f"{page.name}: {span}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_functions_named_in_a_page_exist(page):
    for span in code_spans(page):
        if "<" in span or not (found := re.fullmatch(rf"((?:{FOLDERS})/[\w./-]*)(?:: (.+))?", span)):
            continue
        path = ROOT / found[1]
        assert path.exists(), f"{page.name}: {span}"
        for name in found[2].split(", ") if found[2] else []:
            assert name in defined_names(path), f"{page.name}: {name} is not in {found[1]}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page.name}: {target}"


def test_the_table_in_the_package_names_functions_that_exist():
    table = (ROOT / "dreamer" / "__init__.py").read_text(encoding="utf-8")
    entries = re.findall(r"([\w/]+\.py)(?:: ([\w.]+(?:, [\w.]+(?=[,\s|]))*))?", table.split("| equation", 1)[1])
    assert entries
    for file, names in entries:
        known = defined_names(ROOT / "dreamer" / file)
        for name in re.split(r", ", names) if names else []:
            assert name in known, f"{file}: {name}"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"] and citation["license"] == project["license"]

"""A saved config may come from anybody: it is read and never run; what no run writes is refused by its key."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml

from dreamer.config.compose import DEEPEST, MOST_VALUES, check_saved, from_dict, parse, to_dict
from dreamer.config.file import read_config

WRONG = [None, [], [[]], ["x"], {}, {"x": 1}, {1: 2}, "x", "", "???", True, -1, 0.5, 10**400, float("nan"), b"x", ()]


@pytest.fixture
def saved(composed) -> dict[str, Any]:
    return to_dict(parse(composed("env=memory")))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def places(values: dict[str, Any], key: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path to every group and every value."""
    for name, value in values.items():
        yield (*key, name)
        if isinstance(value, dict):
            yield from places(value, (*key, name))


def put(values: dict[str, Any], place: tuple[str, ...], value: Any) -> None:
    for name in place[:-1]:
        values = values[name]
    values[place[-1]] = value


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("run_dir", "${oc.env:HOME}", "run_dir=${oc.env:HOME}; nothing in a saved config is interpolated."),
        ("seed", "${oc.decode:'3'}", "seed=${oc.decode:'3'}; nothing"),
        ("batch_size", "${batch_length}", "batch_size=${batch_length}; nothing"),
        ("env.kwargs.delay", "${oc.env:HOME}", "env.kwargs.delay=${oc.env:HOME}; nothing"),
        ("env.kwargs.delay", [{"a": "x ${seed}"}], "env.kwargs.delay[0].a=x ${seed}; nothing"),
        ("env.kwargs", {"${oc.env:HOME}": 1}, "the key ${oc.env:HOME} in env.kwargs, no name."),
        ("env.kwargs", {0: True}, "the key 0 in env.kwargs, no name."),
        ("env.kwargs.when", datetime.date(2026, 11, 30), "env.kwargs.when=a date, which is no plain value."),
        ("env.kwargs.weights", torch.zeros(2), "env.kwargs.weights=a Tensor, which is no plain value."),
        ("env.name", "walk\x1b[2J", r"env.name='walk\x1b[2J', with characters that are no text."),
        ("trainer.max_steps", 10**400, "trainer.max_steps with 1329 bits"),
        ("env", [], "env=a list, where a group of keys belongs."),
        ("env", None, "env=None, where a group of keys belongs."),
        ("model.optim", 5, "model.optim=5, where a group of keys belongs."),
        ("env.kwargs.deep", nested(100_000), f"more than {DEEPEST} levels, at env.kwargs.deep[0]"),
        ("env.kwargs.wide", [0] * MOST_VALUES, "more than 10,000 values, at env.kwargs.wide["),
    ],
)
def test_what_no_run_writes_is_refused_by_its_key(saved, place, value, expected):
    put(saved, tuple(place.split(".")), value)
    with pytest.raises(ValueError) as caught:
        from_dict(saved)
    assert expected in str(caught.value) and str(caught.value).startswith("The saved config has ")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


@pytest.mark.parametrize("values", [None, [], 5, "${oc.env:HOME}", "seed: 1", {0: 1}])
def test_what_is_no_mapping_of_names_is_refused(values):
    with pytest.raises(ValueError, match=r"^The saved config "):
        from_dict(values)


def test_a_config_that_holds_itself_is_refused(saved):
    saved["env"]["kwargs"]["again"] = saved
    with pytest.raises(ValueError, match="levels"):
        check_saved(saved)


def test_any_wrong_value_anywhere_is_read_as_it_stands_or_refused_in_words(saved):
    draw = random.Random(0)
    groups = [place for place in places(saved) if isinstance(_at(saved, place), dict)]
    others = [place for place in places(saved) if place not in groups]
    cases = [(place, value) for place in groups for value in draw.sample(WRONG, 3)]
    cases += [(place, draw.choice(WRONG)) for place in draw.sample(others, 50)]
    refused = 0
    for place, value in cases:
        values = yaml.safe_load(yaml.safe_dump(saved))
        put(values, place, value)
        try:
            from_dict(values)
        except ValueError:
            refused += 1
    assert refused > len(cases) / 2


def _at(values: dict[str, Any], place: tuple[str, ...]) -> Any:
    for name in place:
        values = values[name]
    return values


@pytest.mark.parametrize(
    "data",
    [
        b"a: [",
        b"\xff\xfe\x00",
        b"[" * 1500 + b"]" * 1500,
        b"when: 2026-99-99",
        b"!!python/object/apply:os.system ['touch marker']",
        b"run_dir: ${oc.env:HOME}",
        b"",
    ],
)
def test_a_config_file_of_somebody_else_is_refused_by_its_path(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_bytes(data)
    with pytest.raises(ValueError, match=r"^runs: .*config\.yaml"):
        read_config(tmp_path)
    assert not (tmp_path / "marker").exists()

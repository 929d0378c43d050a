"""Any words on the command line: a config that is saved and read as it is, or a line or two that name a word."""

from __future__ import annotations

import copy
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml
from forms import fuzzed
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hypothesis import example
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from dreamer.config.bounds import leaves
from dreamer.config.compose import from_dict, keys_as_typed, parse, register, to_dict
from dreamer.config.digest import digest
from dreamer.config.error_words import NAMELESS, check_words, describe, printable
from dreamer.config.schema import Config

CONF = Path(__file__).parents[2] / "conf"
GROUPS = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in CONF.iterdir() if path.is_dir()}
FIELDS = {key: item for key, item, _ in leaves(Config)}
BLOCKS = sorted({key.rpartition(".")[0] for key in FIELDS} - {""})
BASES = [
    (),
    ("debug=tiny", "env=dummy_counter"),
    ("env=gymnasium", "env.id=CartPole-v1"),
    ("env=custom", "env.class=my_env.Robot", "model=size12m"),
    ("env=atari", "env.game=pong", "experiment=atari100k"),
]


class Kept(OmegaConf):
    """With one schema for all, of which each merge takes a copy: to build it takes most of the time of `parse`."""

    structured = staticmethod(cache(OmegaConf.structured))  # pyright: ignore


@pytest.fixture(scope="module", autouse=True)
def composing() -> Any:
    """Hydra, initialised once."""
    register()
    module = "dreamer.config.compose"
    kept = patch(f"{module}.OmegaConf", Kept), patch(f"{module}.keys_as_typed", cache(keys_as_typed))
    with initialize_config_dir(str(CONF), version_base=None), kept[0], kept[1]:
        yield


@cache
def base_config(number: int) -> DictConfig:
    return compose("config", overrides=["run_dir=runs/test", *BASES[number]])


def compose_words(base: int, words: list[str]) -> DictConfig:
    """What Hydra makes of the words of a base and these; read onto the composed base where they choose no option."""
    if not all(re.fullmatch(r"(?!hydra)(\+\+|\+|~)?[a-z_.]+(=(?s:.*))?", word) for word in words):
        return compose("config", overrides=["run_dir=runs/test", *BASES[base], *words])
    overrides = OverridesParser.create().parse_overrides(words)
    if any(override.key_or_group in GROUPS or override.is_sweep_override() for override in overrides):
        return compose("config", overrides=["run_dir=runs/test", *BASES[base], *words])
    config = copy.deepcopy(base_config(base))
    ConfigLoaderImpl._apply_overrides_to_config(overrides, config)
    return config


TEXT = st.one_of(
    st.text(max_size=8),
    st.text(st.characters(), max_size=4),  # with halves of pairs: arguments that are no UTF-8
    st.text(st.sampled_from("abc019.-+~=,:[]{}()'\"\\$@/# \n\tßЖ字🤖"), max_size=10),
    st.text(max_size=3),
)
NUMBERS = st.one_of(
    st.integers(-3, 300).map(str),
    st.integers().map(str),
    st.floats().map(str),
    st.floats(0, 1).map(str),
    st.sampled_from(
        ["1e6", "1e400", "-1e-320", "9" * 60, "9" * 5000, "nan", "inf", "-inf", ".nan", "0x10", "1_000", "1."]
    ),
)
PHRASES = st.sampled_from(
    [
        "", "null", "true", "false", "none", "???", "[]", "[1,2]", "[2,3,4,4]", "[a,b]", "[1,x]", "[[1]]", "{}",
        "{a: 1}", "{1: 2}", "{a: {1: 2, b: [3, {4: 5}]}}", "{a: nan}", "{a: }", "[1", "{a", "'a b'", '"a', "'", "1,2",
        "a,b", "range(0,3)", "choice(1,2)", "glob(*)", "int(3)", "str(1)", "float(x)", "sort(3,1)", "shuffle(1,2)",
        "extend_list(1)", "${seed}", "${nothing}", "${run_dir}", "${env.name}", "${oc.env:HOME}", "${oc.env:NO_SUCH}",
        "${now:%Y}", "${now:}", "${a:b}", "${file_name:a/b}", "${share_of_return:1,2}", "${", "}", "\\${seed}", "a b",
        "a=b", "=", "==",
    ]
)  # fmt: skip
VALUES = st.one_of(NUMBERS, PHRASES, TEXT, NUMBERS.map("{{a: {}, b: [{{c: 1}}]}}".format))


def fitting(key: str) -> st.SearchStrategy[str]:
    """Values of the kind that `key` takes, within its range or not far from it."""
    item = FIELDS[key]
    kind, words = str(item.type), item.metadata.get("words")
    if words:
        return st.sampled_from([*words, words[0].upper(), words[0][:-1]])
    if "bool" in kind:
        return st.sampled_from(["true", "false", "True", "1", "yes"])
    if "list" in kind:
        return st.lists(st.integers(0, 9), max_size=4).map(lambda entries: f"[{','.join(map(str, entries))}]")
    if "dict" in kind:
        return st.dictionaries(st.sampled_from("abc"), NUMBERS, max_size=2).map(
            lambda pairs: "{" + ", ".join(f"{name}: {value}" for name, value in pairs.items()) + "}"
        )
    if "int" in kind:
        return st.one_of(st.integers(0, 1024).map(str), st.sampled_from(["1e3", "512", "100000"]))
    return st.one_of(st.floats(0, 2).map(str), NUMBERS) if "float" in kind else st.one_of(TEXT, st.just("word"))


@st.composite
def misspelt(draw: st.DrawFn, word: str) -> str:
    """One letter left out, doubled or another, or the end not typed yet."""
    at = draw(st.integers(0, len(word) - 1))
    kind = draw(st.sampled_from(["out", "twice", "other", "end"]))
    middle = {"out": "", "twice": word[at] * 2, "other": draw(st.sampled_from("aeiou_.-")), "end": ""}[kind]
    return word[:at] + middle + ("" if kind == "end" else word[at + 1 :])


@st.composite
def typed_words(draw: st.DrawFn) -> str:
    """A word: mostly a key and a value, some with a fault."""
    kind = draw(st.sampled_from(["fits"] * 7 + ["value", "value", "key", "block", "group", "own", "half", "text"]))
    key = draw(st.sampled_from(sorted(FIELDS)))
    if kind == "fits":
        return f"{key}={draw(fitting(key))}"
    if kind == "text":
        return draw(TEXT)
    if kind == "half":
        word = f"{key}={draw(fitting(key))}"
        return word[: draw(st.integers(0, len(word)))]
    if kind == "key":
        key = draw(
            st.one_of(misspelt(key), st.sampled_from([key.rpartition(".")[2], f"{key}.x", f"x.{key}", key + "[0]"]))
        )
    elif kind == "block":
        key = draw(st.sampled_from(BLOCKS))
    elif kind == "own":
        key = draw(
            st.sampled_from(
                ["env.kwargs.gravity", "env.kwargs.a.b", "env.kwargs", "hydra.job.name", "hydra.run.dir", "lr"]
            )
        )
    elif kind == "group":
        group = draw(st.sampled_from([*GROUPS, "nothing", "hydra/job_logging"]))
        option = draw(st.sampled_from(GROUPS.get(group) or ["none"]))
        option = draw(st.one_of(st.just(option), misspelt(option), VALUES))
        return f"{group}{draw(st.sampled_from(['', '', '', '@x', '@:y']))}={option}"
    prefix = draw(st.sampled_from(["", "", "", "", "+", "++", "~", "+~"]))
    if prefix == "~" and draw(st.booleans()):
        return f"~{key}"
    return f"{prefix}{key}={draw(VALUES)}"


def told(base: int, words: list[str]) -> str | Config:
    """The config of these words, or what train.py prints in its place; dreamer/cli.py prints the same errors."""
    with patch.object(sys, "argv", ["train.py", *words]):
        try:
            check_words(words, Config)
            composed = compose_words(base, words)
        except (HydraException, OmegaConfBaseException, MarkedYAMLError) as error:
            return describe(error, Config)
        except ValueError as error:
            assert str(error).startswith(NAMELESS), repr(error)
            return describe(error, Config)
        try:
            return parse(composed)
        except OmegaConfBaseException as error:
            return describe(error, Config)
        except ValueError as error:
            return str(error)


@fuzzed(50, st.integers(0, len(BASES) - 1), st.lists(typed_words(), min_size=1, max_size=3))
@example(1, ["+env.kwargs={a: {1: 2}}"])  # was a TypeError
@example(1, ["+env.kwargs={a: [{1: 2, b: 3}]}"])  # was a TypeError of its digest
@example(1, ["env.kwargs={a: 99999999999999999999}"])  # was saved, and never read again
@example(1, ["trainer.max_steps=1e30"])
@example(1, ["env.name='a\x1b[1m'"])
@example(1, ["env.name='a\udc80'"])  # was an error when it was saved
@example(0, ["env.class=\x1e\r"])  # was a message of three lines
@example(0, [""])
@example(0, ["batch_length=0", "\r"])  # a blank has no name, and is read before the other
@example(0, ["replay=-inf"])  # was called group=option
@example(0, ["hydra=0.0"])
@example(0, ["="])  # was called nothing
@example(0, ["=0"])  # was called group=option
@example(0, ["+={a: 0}"])  # was called ''
@example(0, ["+="])  # was a traceback
@example(0, ["~"])  # was called ''
@example(0, ["preset=[1,2]"])  # was a traceback
@example(0, ["env.kwargs=${seed}", "env.kwargs.gravity=0"])  # was a traceback
@example(0, ["model.optim.eps=" + "9" * 320])  # was a traceback
@example(0, ["~model=3"])  # was a traceback
@example(0, ["seed=" + "9" * 5000])  # was a traceback
@example(1, ["env.kwargs.a.b=???"])  # was named by its last word only
def test_any_words_make_a_config_that_can_be_saved_or_are_refused_in_a_line_or_two(base: int, words: list[str]) -> None:
    result = told(base, words)
    if isinstance(result, str):
        line = printable(result)
        is_named = names_one_of([printable(word) for word in words], line)
        is_blank = re.match("cannot read ' *'", line) and any(not word.strip() for word in words)
        assert line.isprintable() and (is_named or is_blank), (words, result)
        return
    values = to_dict(result)
    written = yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False).encode()
    read = from_dict(yaml.safe_load(written.decode()))
    assert repr(read) == repr(result) and digest(read) == digest(result)


def names_one_of(words: list[str], message: str) -> bool:
    """Whether one of the words stands in the message: its key or where that begins, its value, or its ${}."""
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        parts = [
            repr(word),
            key,
            key.partition(".")[0],
            value,
            word[:80],
            *re.findall(r"\w{2,}", value if "${" in value else ""),
        ]
        if any(part and part in message for part in parts):
            return True
    return False

"""What Hydra and OmegaConf say about a mistyped option, key or value, in our words: as typed, and what is near."""

from __future__ import annotations

import re
import sys
from dataclasses import fields, is_dataclass
from difflib import SequenceMatcher
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError

from dreamer.config.bounds import leaves, nearest

GROUPS_WITHOUT_KEYS = ("preset", "experiment", "hparams_search", "debug")
GROUPS_OF_HYDRA = ("hydra/launcher", "hydra/sweeper")
NAMELESS_OPTION = "Config group override "
NO_OPTION = "must name an option of that group; --help lists them."
MOST_DIGITS = 300  # with some more Python makes no float of a number, and with some thousand it does not read it
NAMELESS = (NAMELESS_OPTION, "Only one of --run")
"""How the plain ValueErrors begin that Hydra raises of a word without naming it."""
KINDS = {
    "int": "a whole number, such as 16",
    "float": "a number, such as 0.5 or 4e-5",
    "int | float": "a number, such as 1000 or 1e6",
    "int | None": "a whole number, such as 64, or null",
    "float | None": "a number, such as 4e-5, or null",
    "bool": "true or false",
    "str": "text",
    "str | None": "text, or null",
    "dict[str, Any]": "a mapping, such as {gravity: 5}",
    "list[str]": "a list, such as [a,b]",
    "list[int]": "a list of whole numbers, such as [2,3,4,4]",
}


def check_words(words: list[str], schema: type) -> None:
    """HydraException for words that make Hydra itself fail: `=3` has no key, `env=[1]` lists no options,
    `env.kwargs=${seed}` is a mapping that no other word can add to, and some numbers are too long for Python."""
    blocks = _blocks(schema)
    for word in words:
        key, _, value = word.lstrip("+~").partition("=")
        if not key:
            raise OverrideParseException(override=word, message="no key")
        if any(len(digits) > MOST_DIGITS for digits in re.findall(r"[\d_]+", word)):
            raise HydraException(f"{_shortened(word)} has more digits than a number can have; write it as 1e6.")
        if "=[" in word and _names_no_option(word, schema):
            raise HydraException(f"{_shortened(word)} {NO_OPTION}")
        if key in blocks and "${" in value and not value.startswith("{"):
            raise HydraException(_wrong_type(key, _shortened(value), schema))


def describe(error: Exception, schema: type) -> str:
    """One or two lines for an error that Hydra, OmegaConf or YAML raised while composing a config of type `schema`."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _unknown_option(error.missing_cfg_file, [name for name in error.options if not name.startswith("_")])
    if str(error).startswith(NAMELESS_OPTION):
        word = next((word for word in sys.argv[1:] if _names_no_option(word, schema)), "group=option")
        return f"{_shortened(word)} {NO_OPTION}"
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': write key=value, and quotes around a value with spaces or commas."
    if isinstance(error, MarkedYAMLError):
        return f"{str(error.problem_mark).strip()}: {error.problem}."

    text = str(error)
    if found := re.match(r"Ambiguous value for argument '(.+)'", text):
        return f"{found[1]} holds several values: add -m for one run with each, or write key=[a,b] for a list."
    if "does not support sweep type" in text:
        return "interval(...) is for a search, which chooses values in it: add hparams_search=optuna."
    if found := re.match(r"Sweep parameters '(.+)' requires", text):
        return f"{found[1]} holds several values: add -m for one run with each."
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error.__context__
    source = re.match(r"In '(.+?)'", text)
    place = f"{source[1]}.yaml: " if source else ""
    typed = re.match(r"(?:Error merging override |Could not override ')[+]*([^=']+)(?:=(.*))?", text)
    if isinstance(cause, ConfigKeyError | ConfigAttributeError):
        return place + _unknown_key(typed[1] if typed else str(cause.full_key), schema)
    if isinstance(cause, ValidationError) and (typed or cause.full_key):
        key = typed[1] if typed else str(cause.full_key)
        return place + _wrong_type(key, typed[2] if typed else _value(cause), schema)
    first, key = text.splitlines()[0], getattr(error, "full_key", None)
    return f"{key}: {first}" if key and str(key) not in first else first


def printable(message: str) -> str:
    """A message in a line that a terminal prints and does not obey, whatever the words were that it repeats."""
    line = " ".join(part.strip() for part in message.splitlines() if part.strip())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def _unknown_option(path: str, options: list[str]) -> str:
    group, _, option = path.rpartition("/")
    near = nearest(option, options)
    hint = f"nearest: {', '.join(near)}." if near else f"one of {', '.join(options)}."
    return f"unknown {group} '{option}'; {hint}"


def _shortened(word: str) -> str:
    return word if len(word) <= 80 else f"{word[:80]}..."


def _names_no_option(word: str, schema: type) -> bool:
    """Whether a word is a `group=3`, a `group=true` or a `group=[3]`."""
    groups = [item.name for item in fields(schema) if is_dataclass(item.default_factory)]
    try:
        override = OverridesParser.create().parse_override(word)
        values = _entries(override.value())
    except (HydraException, ValueError):  # a flag, or another word that cannot be read
        return False
    is_text = all(isinstance(value, str | dict | QuotedString) for value in values)
    group = override.key_or_group
    return not is_text and (group in (*groups, *GROUPS_WITHOUT_KEYS) or group.partition("/")[0] == "hydra")


def _entries(value: Any) -> list[Any]:
    """The single values of a value, a list or a sweep over these."""
    if isinstance(value, ChoiceSweep):
        return [entry for choice in value.list for entry in _entries(choice)]
    return value if isinstance(value, list) else [value]


def _blocks(schema: type) -> set[str]:
    """Keys that hold others: `model.rssm`, or `env.kwargs`."""
    known = [(name, str(item.type)) for name, item, _ in leaves(schema)]
    groups = {name.rpartition(".")[0] for name, _ in known}
    return {group for group in groups if "." in group} | {name for name, kind in known if kind.startswith("dict")}


def _unknown_key(key: str, schema: type) -> str:
    """Likeness of the last word counts too, so that `lr` finds model.optim.lr."""
    if key.startswith("hydra."):
        return f"unknown key '{key}'; the files of conf/hydra/launcher and conf/hparams_search have those of a sweep."
    known = [name for name, _, _ in leaves(schema)]
    groups = {name.rpartition(".")[0] for name in known} - {""}

    def likeness(name: str) -> float:
        whole = SequenceMatcher(None, key, name).ratio()
        last = SequenceMatcher(None, key.rpartition(".")[2], name.rpartition(".")[2]).ratio()
        return max(whole, 0.9 * last)

    ranked = sorted([*known, *groups, *GROUPS_WITHOUT_KEYS, *GROUPS_OF_HYDRA], key=likeness, reverse=True)
    near = [name for name in ranked[:3] if likeness(name) > max(0.6, likeness(ranked[0]) - 0.15)]
    hint = f"nearest: {', '.join(near)}." if near else "python train.py --cfg job prints all keys."
    return f"unknown key '{key}'; {hint}"


def _wrong_type(key: str, value: str, schema: type) -> str:
    kinds = {name: str(item.type) for name, item, _ in leaves(schema)}
    name = re.sub(r"\[\d+\]$", "", key)
    if name not in kinds:
        below = [known for known in kinds if known.startswith(f"{name}.")]
        if not below:
            return f"{key}={value} is of another kind than this key takes."
        return f"{key}={value} replaces a group of keys; set one of them: {', '.join(below[:4])}."
    return f"{key}={value} must be {KINDS[kinds[name]]}."


def _value(error: ValidationError) -> str:
    found = re.search(r"[Vv]alue '(.*?)'", str(error.msg))
    return found[1] if found else "this value"

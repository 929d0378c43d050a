"""Which environments of a saved config are built without being named again, and that asking imports nothing."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import pytest
from gymnasium.envs.registration import EnvSpec

from dreamer.config.schema import SUITES, EnvConfig
from dreamer.envs.trust import SHIPPED, EnvWords, check_trusted, ships


def saved(suite: str = "gymnasium", **changes: Any) -> EnvConfig:
    return EnvConfig(**{"suite": suite, "name": "robot", **changes})


def test_every_suite_is_shipped_or_names_code() -> None:
    assert SUITES.keys() == {*SHIPPED, "gymnasium", "custom"}


@pytest.mark.parametrize("suite", SHIPPED)
def test_suites_of_this_project_need_no_word(suite: str) -> None:
    check_trusted(saved(suite))


@pytest.mark.parametrize("id", ["CartPole-v1", "Ant-v5", "FrozenLake-v1"])
def test_ids_of_gymnasium_itself_need_no_word(id: str) -> None:
    check_trusted(saved(id=id))
    check_trusted(saved(id=id), EnvWords(id=id))


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"suite": "custom", "class_": "a.B"}, "env.class=a.B"),
        ({"suite": "custom", "class_": "a:B", "import_": "c.d"}, "env.class=a:B env.import=c.d"),
        ({"id": "CartPole-v1", "import_": "helper"}, "env.import=helper env.id=CartPole-v1"),
        ({"id": "Blind-v0"}, "env.id=Blind-v0"),  # registered here, but not by gymnasium
        ({"id": "Other-v0"}, "env.id=Other-v0"),
        ({"id": "helper:CartPole-v1"}, "env.id=helper:CartPole-v1"),
        ({"id": "Nowhere-v0"}, "env.id=Nowhere-v0"),
        ({"id": "Ant-v5", "kwargs": {"xml_file": "/tmp/ant.xml"}}, "env.id=Ant-v5"),
    ],
)
def test_other_code_needs_the_same_words(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], needed: str) -> None:
    monkeypatch.setitem(gymnasium.registry, "Other-v0", EnvSpec("Other-v0", "helper.gymnasium.envs.x:Y"))
    config, modules = saved(**changes), set(sys.modules)
    with pytest.raises(ValueError) as caught:
        check_trusted(config)
    assert str(caught.value).endswith(f" add: {needed}") and not ships(config)
    check_trusted(config, EnvWords(config.class_, config.import_, config.id))
    assert set(sys.modules) == modules


def test_the_words_that_are_typed_already_are_not_asked_for_again() -> None:
    config = saved("custom", class_="a.B", import_="c")
    with pytest.raises(ValueError, match=r" add: env\.import=c$"):
        check_trusted(config, EnvWords(class_="a.B"))


@pytest.mark.parametrize("word", ["a.B; rm -rf ~", "a.B$(id)", "a b", "a\nb", "a|b", "a.B\u202e", "", "a`id`", "*"])
def test_no_word_is_offered_that_a_shell_would_obey_where_it_is_pasted(word: str) -> None:
    for config in (saved("custom", class_=word), saved(id=word)):
        with pytest.raises(ValueError) as caught:
            check_trusted(config)
        assert "add:" not in str(caught.value) and str(caught.value).isprintable()
        assert "which names no code. Nothing of it was run." in str(caught.value)


def test_arguments_are_shown_to_who_is_asked_to_trust_them() -> None:
    with pytest.raises(ValueError, match=r"env\.class=a\.B with env\.kwargs \{'command': 'rm x'\}\. It was not run\."):
        check_trusted(saved("custom", class_="a.B", kwargs={"command": "rm x"}))


@pytest.mark.parametrize("suite", [*SHIPPED, "gymnasium", "custom"])
def test_words_that_are_not_the_files_are_refused_for_every_suite(suite: str) -> None:
    config = saved(
        suite, id="CartPole-v1" if suite == "gymnasium" else None, class_="a.B" if suite == "custom" else None
    )
    with pytest.raises(ValueError, match=r"^env\.import=os was typed, but the saved config has no such key;"):
        check_trusted(config, EnvWords(import_="os"))
    with pytest.raises(ValueError, match=r"^env\.(class|id)=x was typed, but the saved config has "):
        check_trusted(config, EnvWords(class_="x") if suite == "custom" else EnvWords(id="x"))

"""Modules that not every run needs: packages of an extra, and what the user wrote."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from dreamer.config.bounds import suggestion


def import_package(name: str, extra: str) -> ModuleType:
    """A package of the extra `extra` in pyproject.toml; ValueError, with the command that installs it, without it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ValueError(f"env={extra} needs the package {name}; {install_command(extra)}") from error


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f'pip install -c requirements.lock -e ".[{extra}]"'


def import_own(key: str, name: str) -> ModuleType:
    """A module of the user's, from the current directory or an installed package; `key` is what asked for it."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{key} cannot be imported from {os.getcwd()} or an installed package: {error}.") from error


def own_class(path: str) -> Any:
    """What env.class=module.Class names; ValueError where there is no such thing."""
    module_name, _, name = path.replace(":", ".").rpartition(".")
    if not module_name:
        raise ValueError(f"env.class={path} must name a module and a class, such as my_env.{path}.")
    module = import_own(f"env.class={path}", module_name)
    if not hasattr(module, name):
        classes = [word for word, value in vars(module).items() if isinstance(value, type)]
        hint = suggestion(name, classes) if classes else "it holds no class."
        raise ValueError(f"env.class={path}: {module_name} has no {name}; {hint}")
    return getattr(module, name)


def check_arguments(
    owner: str,
    function: Callable[..., Any],
    kwargs: dict[str, Any],
    given: Collection[str] = (),
    further: Collection[str] = (),
) -> None:
    """ValueError where env.kwargs has an argument that `function` does not take, or lacks one that it needs.

    `owner`: whose arguments they are, as the user named it. The arguments `given` are set by keys of the same names:
    env.kwargs may not have them. Those of `further` are taken elsewhere, and may be there.
    """
    parameters = inspect.signature(function).parameters
    takes_any = any(item.kind is item.VAR_KEYWORD for item in parameters.values())
    free = [name for name in parameters if name not in given]
    for name in kwargs:
        if name in given:
            raise ValueError(f"env.kwargs.{name} is set by env.{name}; give env.{name}=... instead.")
        if name not in free and name not in further and not takes_any:
            known = [*free, *further]
            hint = suggestion(name, known) if known else "there is none."
            raise ValueError(f"env.kwargs.{name} is not an argument of {owner}; {hint}")
    for name in free:
        item = parameters[name]
        is_needed = item.default is item.empty and item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)
        if is_needed and name not in kwargs:
            raise ValueError(
                f"env.kwargs.{name} has no value; give env.kwargs.{name}=... on the command line or in a YAML file."
            )

"""What a saved config may build: what ships here. Code that it names runs only if the user names the same code."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dreamer.config.bounds import leaves
from dreamer.config.compose import shown
from dreamer.config.schema import EnvConfig

SHIPPED = ("dmc", "dummy", "atari", "crafter")
"""Suites whose environments are all written here or in the package that the suite is named for."""
OF_GYMNASIUM = "gymnasium.envs."  # where gymnasium keeps its own; an entry point is module:Class
NAMES_A_FILE = "xml_file"  # of env.kwargs: a model of MuJoCo's that does not ship
WORD = r"[\w.:/-]+"  # a path to a class or module, or an id: nothing that a shell would run when it is pasted


@dataclass
class EnvWords:
    """What the user typed of the keys that can name code. A script that reads a saved config takes them as `env`."""

    class_: str | None = None
    import_: str | None = None
    id: str | None = None


def check_trusted(saved: EnvConfig, typed: EnvWords | None = None) -> None:
    """ValueError where the environment of a saved config is neither one that ships here nor named by `typed` as well.

    It imports nothing that the config names, so it comes before whatever does.
    """
    theirs = {key: getattr(saved, item.name) for key, item, _ in leaves(EnvWords)}
    ours = {key: value for key, _, value in leaves(typed or EnvWords()) if value is not None}
    for key, value in ours.items():
        if value != theirs[key]:
            found = "has no such key" if theirs[key] is None else f"has {shown(theirs[key])}"
            raise ValueError(f"env.{key}={value} was typed, but the saved config {found}; nothing of it was run.")
    if ships(saved):
        return
    needed = {key: value for key, value in theirs.items() if value is not None}
    missing = {key: value for key, value in needed.items() if key not in ours}
    if not missing:
        return
    arguments = f" with env.kwargs {shown(str(saved.kwargs), most=300)}" if saved.kwargs else ""
    wanted = f"{', '.join(f'env.{key}={shown(value)}' for key, value in needed.items())}{arguments}"
    if not all(re.fullmatch(WORD, value) for value in missing.values()):
        raise ValueError(f"The saved config wants to run {wanted}, which names no code. Nothing of it was run.")
    words = " ".join(f"env.{key}={value}" for key, value in missing.items())
    raise ValueError(
        f"The saved config wants to run code that does not ship with this project: {wanted}. It was not run. "
        f"If you trust it, and whoever gave you the file, add: {words}"
    )


def ships(env: EnvConfig) -> bool:
    """Whether the environment is one of this project's, or of the packages that it is made for."""
    if env.suite != "gymnasium":
        return env.suite in SHIPPED
    import gymnasium  # only where it is asked; --help needs none of it

    spec = gymnasium.registry.get(env.id or "")  # looked up, not asked for: gymnasium imports the module of `module:Id`
    entry_point = spec.entry_point if spec is not None else None
    is_own = isinstance(entry_point, str) and entry_point.startswith(OF_GYMNASIUM)
    return is_own and env.import_ is None and NAMES_A_FILE not in env.kwargs

"""What one wants next at the end of a run, as commands to copy."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dreamer.config.schema import Config

NO_TEXT = ("null", "true", "false", "nan", "inf", "infinity")
OF_ENV = {"class": "class_", "import": "import_", "id": "id"}
"""Keys that must be typed again where the environment is somebody's own code, and their fields."""


def next_commands(config: Config, words: Sequence[str], is_finished: bool) -> str:
    """Four lines: evaluate, dream, report, and the resume; of a finished run to twice as many steps.

    `words`: what the user typed after train.py.
    """
    program = Path(sys.argv[0])
    scripts = program.parent / "scripts"
    env = [
        word(f"env.{key}", value) for key, name in OF_ENV.items() if (value := getattr(config.env, name)) is not None
    ]
    checkpoint = word("checkpoint", config.run_dir)
    changed = ["run_dir", *(["trainer.max_steps"] if is_finished else [])]
    resume = [typed for typed in words if typed.partition("=")[0].lstrip("+") not in changed]
    resume.append(word("run_dir", config.run_dir))
    if is_finished:
        resume.append(f"trainer.max_steps={2 * int(config.trainer.max_steps)}")
    commands = {
        "evaluate": [scripts / "evaluate.py", checkpoint, *env],
        "dream": [scripts / "dream.py", checkpoint, *env],
        "report": [scripts / "report.py", word("run", config.run_dir)],
        "go on": [program, *resume],
    }
    return "\n".join(f"  {name:<10}{quoted(['python', *map(str, command)])}" for name, command in commands.items())


def word(key: str, value: str) -> str:
    """`key=value` as Hydra reads it as text: in quotes, unless it is a plain word or path."""
    is_plain = re.fullmatch(r"(?:[A-Za-z_]|\.{0,2}/)[\w./~:@+-]*", value, flags=re.ASCII)
    if is_plain and value.lower() not in NO_TEXT:
        return f"{key}={value}"
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return f"{key}='{escaped}{trailing * chr(92)}'"


def quoted(command: list[str]) -> str:
    """For the shell of this system."""
    return subprocess.list2cmdline(command) if sys.platform == "win32" else shlex.join(command)

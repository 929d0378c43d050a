"""config.yaml: the resolved config that stands beside a run, and how it is read back."""

from __future__ import annotations

import hashlib
from pathlib import Path

import yaml

from dreamer.config.compose import from_dict, to_dict
from dreamer.config.digest import digest
from dreamer.config.schema import Config

CONFIG_FILE = "config.yaml"
SUM = b"# SHA-256 of what follows: "


def format_config(config: Config) -> bytes:
    """The content of the file: a sum over what follows, the digest that names the experiment, the values."""
    text = f"# digest: {digest(config)}\n{yaml.safe_dump(to_dict(config), sort_keys=False)}".encode()
    return SUM + hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def read_config(directory: Path) -> Config:
    """The config that a run wrote; ValueError where it is damaged. Files from before there was a sum have none."""
    path = directory / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"runs: {directory} holds no {CONFIG_FILE}.")
    text = path.read_bytes().replace(b"\r\n", b"\n")
    if text.startswith(SUM):
        digits, _, text = text.removeprefix(SUM).partition(b"\n")
        if digits != hashlib.sha256(text).hexdigest().encode():
            raise ValueError(f"runs: {path} is damaged or was edited: it is not what the run wrote (SHA-256).")
    try:
        values = yaml.safe_load(text.decode())
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: bytes, dates and numbers that are none
        raise ValueError(f"runs: {path} cannot be read; it is no YAML of a config.") from error
    try:
        return from_dict(values)
    except ValueError as error:
        raise ValueError(f"runs: {path}: {error}") from error

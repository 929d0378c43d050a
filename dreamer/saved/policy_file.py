"""An agent alone, to hand on: weights as safetensors, which run nothing when read, with their config in the header."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dreamer.config.compose import check_saved, shown
from dreamer.saved.checks import check_weights
from dreamer.saved.whole_file import replacing
from dreamer.types import Space

SUFFIX = ".safetensors"
HEADER = "dreamer"
SHA256 = "sha256"  # key of the header; over everything else that is read
KINDS = {"config": dict, "digest": str, "env_steps": int, "updates": int}
"""What else the header holds. `digest` names the experiment (config/digest.py) and says nothing of the weights."""
SPACES = "spaces"  # key of the header; files from before 30 November 2026 have none
MOST_KEYS = 1000  # observations of an agent


def write_policy(state: dict[str, Any], path: Path) -> None:
    """The weights of a checkpoint as `read_checkpoint` gives it, with its config and counters, and nothing else."""
    check_header(state["dreamer"], path)
    header = {key: state["dreamer"][key] for key in (*KINDS, SPACES) if key in state["dreamer"]}
    run_dir = Path(str(header["config"].get("run_dir"))).resolve().name
    header["config"] = {**header["config"], "run_dir": run_dir}  # no path of this machine
    weights = {key: value.contiguous() for key, value in state["state_dict"].items()}
    check_weights(weights, path)
    header[SHA256] = sha256_of(header, weights)
    with replacing(path) as part:
        part.write_bytes(save(weights, metadata={HEADER: json.dumps(header)}))  # save_file lets nobody else read it


def read_policy(path: Path) -> dict[str, Any]:
    """What `write_policy` wrote, in the form of a checkpoint; ValueError where it is damaged or of somebody else.

    A file from before there was one has no SHA-256: it is read, and a line says that damage would not be seen.
    """
    try:
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, a handle and no dictionary
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint={path} cannot be read; it is truncated or no safetensors file.") from error
    if metadata.keys() != {HEADER}:
        raise ValueError(f"checkpoint={path} was not written by this project.")
    try:
        header = json.loads(metadata[HEADER])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"checkpoint={path} is damaged: its header is no JSON.") from error
    written = header.pop(SHA256, None) if isinstance(header, dict) else None
    check_header(header, path)
    if unknown := header.keys() - {*KINDS, SPACES}:
        raise ValueError(f"checkpoint={path} is damaged: its header has the key {shown(min(unknown))}.")
    if written is None:
        print(f"{path} has no SHA-256, so damage would not be seen; scripts/export.py writes one.")
    elif written != sha256_of(header, weights):
        raise ValueError(f"checkpoint={path} is damaged: it is not what was written (SHA-256). Get it again.")
    check_weights(weights, path)
    return {"state_dict": weights, "dreamer": header}


def check_header(header: Any, path: Path) -> None:
    """ValueError where what stands beside the weights has another form than a run gives it."""
    if not isinstance(header, dict):
        raise ValueError(f"checkpoint={path} is damaged: its header is {shown(header)}, not a mapping.")
    for key, kind in KINDS.items():
        if type(header.get(key)) is not kind:
            found = shown(header[key]) if key in header else "absent"
            raise ValueError(f"checkpoint={path} is damaged: {key} is {found}, not of type {kind.__name__}.")
    if min(header["env_steps"], header["updates"]) < 0:
        raise ValueError(f"checkpoint={path} is damaged: it counts less than 0 steps or updates.")
    try:
        check_saved(header["config"])
    except ValueError as error:
        raise ValueError(f"checkpoint={path}: {error}") from error
    if SPACES in header:
        spaces_of(header, path)


def spaces_of(header: dict[str, Any], path: Path) -> tuple[dict[str, Space], Space]:
    """The observation and action spaces of an agent; ValueError where they are of another form than a run gives it."""
    spaces = header[SPACES]
    try:
        if len(spaces["obs"]) > MOST_KEYS:
            raise ValueError(f"more than {MOST_KEYS} observations")
        return {key: Space.from_dict(space) for key, space in spaces["obs"].items()}, Space.from_dict(spaces["action"])
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"checkpoint={path} is damaged: its {SPACES} are none of an agent.") from error


def spaces_to_dict(obs_space: dict[str, Space], action_space: Space) -> dict[str, Any]:
    """Plain values, from which `spaces_of` makes the spaces again."""
    return {"obs": {key: space.to_dict() for key, space in obs_space.items()}, "action": action_space.to_dict()}


def sha256_of(header: dict[str, Any], weights: dict[str, Tensor]) -> str:
    """The sum is over the header without it, as canonical JSON, and the name, type, shape and bytes of each tensor."""
    names = sorted(weights)
    kinds = [[name, str(weights[name].dtype), list(weights[name].shape)] for name in names]
    rest = {key: value for key, value in header.items() if key != SHA256}
    sum_ = hashlib.sha256(json.dumps([rest, kinds], sort_keys=True, separators=(",", ":")).encode())
    for name in names:
        sum_.update(weights[name].reshape(-1).view(torch.uint8).numpy().data)
    return sum_.hexdigest()

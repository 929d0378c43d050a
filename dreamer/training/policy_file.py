"""An agent alone, to hand on: weights as safetensors, which run nothing when read, with their config in the header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

SUFFIX = ".safetensors"
HEADER = "dreamer"


def write_policy(state: dict[str, Any], path: Path) -> None:
    """The weights of a checkpoint (`checkpoint.read_checkpoint`), with its config and counters, and nothing else."""
    saved = state["dreamer"]
    header = {key: saved[key] for key in ("config", "digest", "env_steps", "updates")}
    header["config"] = {
        **saved["config"],
        "run_dir": Path(saved["config"]["run_dir"]).resolve().name,
    }  # no path of this machine
    weights = {key: value.contiguous() for key, value in state["state_dict"].items()}
    path.write_bytes(save(weights, metadata={HEADER: json.dumps(header)}))  # save_file lets nobody else read it


def read_policy(path: Path) -> dict[str, Any]:
    """What `write_policy` wrote, in the form of a checkpoint; ValueError where it is damaged or of somebody else."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118, a handle and no dictionary
            header = (file.metadata() or {}).get(HEADER)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint={path} cannot be read; it is truncated or no safetensors file.") from error
    if header is None:
        raise ValueError(f"checkpoint={path} was not written by this project.")
    return {"state_dict": weights, "dreamer": json.loads(header)}

"""The files of a `PolicyStep`, ONNX and torch.export: how one is made, and how one is run."""

from __future__ import annotations

import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dreamer.envs.suites.imports import install_command

if TYPE_CHECKING:  # seconds to import, and words are checked before
    from torch.export import ExportedProgram

    from dreamer.export.step import PolicyStep

Arrays = Mapping[str, np.ndarray]
Runner = Callable[[Arrays, np.ndarray, Arrays], tuple[np.ndarray, np.ndarray]]
"""obs, state, noise (key -> array each) -> action, next state; what a file holds, ready to run on one thread."""

ONNX_NEEDS = ("onnx", "onnxscript", "onnxruntime")
METADATA = "dreamer.json"  # of a .pt2, the extra file with the metadata
MOST_BYTES = 2**31 - 2**20  # protobuf has no larger files


def check_installed(format: str) -> None:
    """ValueError where the packages that write and check a format are not there."""
    missing = [name for name in ONNX_NEEDS if format == "onnx" and importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"format=onnx needs the package {missing[0]}; {install_command('onnx')}")


def encode(step: PolicyStep, format: str, metadata: dict[str, str]) -> bytes:
    """The file of a step, "onnx" or "torch_export". ValueError where the format has no place for so many weights."""
    nbytes = sum(tensor.nbytes for tensor in step.state_dict().values())
    if format == "onnx" and nbytes > MOST_BYTES:
        raise ValueError(f"format=onnx holds 2 GB, and this agent has {nbytes / 1e9:.1f} GB; take format=torch_export.")
    import torch

    with quietly(), torch.no_grad():
        program = torch.export.export(step, step.example())
        return _to_onnx(step, program, metadata) if format == "onnx" else _to_archive(program, metadata)


def open_runner(path: Path, format: str) -> Runner:
    return _run_onnx(path) if format == "onnx" else _run_archive(path)


def _to_onnx(step: PolicyStep, program: ExportedProgram, metadata: dict[str, str]) -> bytes:
    import torch

    names = [*(f"obs.{key}" for key in step.agent.obs_space), "state", *step.noise_shapes]
    exported = torch.onnx.export(
        program, dynamo=True, verbose=False, input_names=names, output_names=["action", "next_state"]
    )
    assert exported is not None
    model = exported.model_proto
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def _run_onnx(path: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])

    def run(obs: Arrays, state: np.ndarray, noise: Arrays) -> tuple[np.ndarray, np.ndarray]:
        feed = {**{f"obs.{key}": value for key, value in obs.items()}, "state": state, **noise}
        action, next_state = session.run(None, feed)
        return np.asarray(action), np.asarray(next_state)

    return run


def _to_archive(program: ExportedProgram, metadata: dict[str, str]) -> bytes:
    import torch

    file = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata)})
    return file.getvalue()


def _run_archive(path: Path) -> Runner:
    """Of a file of our own: torch.export.load runs what a file of others asks for."""
    import torch

    with quietly():
        module = torch.export.load(io.BytesIO(path.read_bytes())).module()

    def run(obs: Arrays, state: np.ndarray, noise: Arrays) -> tuple[np.ndarray, np.ndarray]:
        tensors = {key: torch.from_numpy(np.asarray(value)) for key, value in obs.items()}
        with torch.inference_mode():
            action, next_state = module(tensors, *(torch.from_numpy(value) for value in (state, *noise.values())))
        return action.numpy(), next_state.numpy()

    return run


@contextmanager
def quietly() -> Iterator[None]:
    """Without what torch tells of itself: that torchvision is not there, what it leaves as it is, what it renamed."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

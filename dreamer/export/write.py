"""From a checkpoint to a file of one step that was seen to do what the agent does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dreamer.agent import Agent
from dreamer.config.schema import Config
from dreamer.envs.spec import ActionChoices, ActionRange
from dreamer.envs.wrappers import EpisodeJournal
from dreamer.export.check import Comparison, compare
from dreamer.export.formats import encode, open_runner
from dreamer.export.step import Mode, PolicyStep, units_of
from dreamer.saved.whole_file import replacing


def write_step(
    path: Path,
    format: str,
    agent: Agent,
    env: EpisodeJournal,
    metadata: dict[str, str],
    mode: Mode,
    steps: int,
    seed: int,
) -> Comparison:
    """Write the step of an agent as "onnx" or "torch_export", and play `steps` steps beside it.

    The file takes its name once it agrees; RunStopped, and nothing written, where it does not. ValueError where the
    agent is too large for the format.
    """
    step = PolicyStep(agent, units_of(env.env), mode)
    data = encode(step, format, {**metadata, **describe_step(step)})
    with replacing(path) as part:
        part.write_bytes(data)
        return compare(agent, step, open_runner(part, format), env, steps, seed)


def describe_run(header: dict[str, Any], config: Config) -> dict[str, str]:
    """Where an agent comes from and what its environment must be like; what is no word is JSON."""
    env = config.env
    values = {
        "task": env.name,
        "suite": env.suite,
        "config_digest": header["digest"],
        "env_steps": header["env_steps"],
        "updates": header["updates"],
        "action_repeat": env.action_repeat,
        "obs": env.obs,
        "image_size": env.size,
        "camera": env.camera,
        "render": env.render,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def describe_step(step: PolicyStep) -> dict[str, str]:
    """What goes in and comes out."""
    space = step.agent.action_space
    action = {"shape": list(space.shape), "dtype": space.dtype, **describe_units(step.units)}
    if space.is_discrete:
        action["classes"] = list(space.classes)
    kind = "uniform in [0, 1)" if space.is_discrete else "standard normal"
    kinds = {"noise_z": "uniform in [0, 1)", "noise_action": kind}
    return {
        "mode": step.mode,
        "observations": json.dumps({key: space.to_dict() for key, space in step.agent.obs_space.items()}),
        "action": json.dumps(action),
        "state": json.dumps(step.parts),
        "noise": json.dumps({name: kinds[name] for name in step.noise_shapes}),
    }


def describe_units(units: ActionRange | ActionChoices) -> dict[str, Any]:
    if isinstance(units, ActionChoices):
        return {"first": units.first.tolist(), "names": list(units.names)}
    bounds = {name: getattr(units, name).clip(units.least, units.most).tolist() for name in ("low", "high")}
    return {**bounds, "is_whole": units.is_whole.tolist(), "names": list(units.names)}


def lines(found: Comparison, name: str) -> list[str]:
    """What was found, in words."""
    tied = f"; {found.ties} steps, with a draw on the border of two classes, are left out" if found.ties else ""
    original, exported = (f"{1000 * seconds:.2f} ms" for seconds in (found.original_seconds, found.exported_seconds))
    return [
        f"{found.steps:,} steps of {name} beside the agent: actions differ by {found.action:.1e} of half their range "
        f"at most, the state by {found.state:.1e}{tied}",
        f"a step takes {exported}, in the agent itself {original} (medians, one thread)",
    ]

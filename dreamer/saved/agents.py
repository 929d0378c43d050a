"""From a file or a run directory to an agent that acts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dreamer.agent import Agent
from dreamer.config.compose import from_dict
from dreamer.config.schema import Config
from dreamer.envs.trust import EnvWords, check_trusted
from dreamer.saved.checkpoint_file import read_checkpoint
from dreamer.saved.policy_file import SPACES, spaces_of
from dreamer.types import Space

CHECKPOINT_FILE = "checkpoints/last.ckpt"
PREVIOUS_FILE = "checkpoints/previous.ckpt"
POLICY_FILE = "policy.safetensors"  # as scripts/export.py calls it


def load(path: str | Path) -> Agent:
    """The agent of an exported file, a checkpoint, or a run directory, ready to act: `Agent.session` begins.

    Nothing that the file names is run. ValueError where it is no agent, is damaged, or was written before files named
    their spaces and would need code of its author's to tell them; scripts/export.py brings such a file up to date.
    """
    file, state = find(str(path))
    config = from_dict(state["dreamer"]["config"])
    return load_agent(state, config, *spaces_in(state, file), file)


def spaces_in(state: dict[str, Any], path: Path, typed: EnvWords | None = None) -> tuple[dict[str, Space], Space]:
    """Observation and action spaces; of a file from before they were saved, those of the environment it names."""
    if SPACES in state["dreamer"]:
        return spaces_of(state["dreamer"], path)
    from dreamer.envs.make import make_env  # simulators, which nothing else here needs

    env = make_env(load_config(state, typed).env)
    env.close()
    return env.obs_space, env.action_space


def find_checkpoint(run_dir: Path, name: str) -> tuple[Path, dict[str, Any]] | None:
    """The newest sound checkpoint of a run directory, None where there is none at all; `name` is how to call the place.

    Where it is not the last one, a line says why not. ValueError where there are some, and none of them is sound.
    """
    faults: list[str] = []
    for file in (CHECKPOINT_FILE, PREVIOUS_FILE):
        path = run_dir / file
        if not path.is_file():
            continue
        try:
            state = read_checkpoint(path)
        except ValueError as error:
            faults.append(str(error))
            continue
        if file == PREVIOUS_FILE:
            reason = faults[0] if faults else f"{name} has no {CHECKPOINT_FILE}."
            print(f"{reason} Taking {path} instead, of environment step {state['dreamer']['env_steps']:,}.", flush=True)
        return path, state
    if faults:
        raise ValueError(" ".join(faults))
    return None


def find(checkpoint: str) -> tuple[Path, dict[str, Any]]:
    """The file that `checkpoint` names, itself or the newest sound one of a run directory, and what it holds."""
    path = Path(checkpoint)
    if not path.is_dir():
        return path, read_checkpoint(path)
    found = find_checkpoint(path, f"checkpoint={checkpoint}")
    if found is None and (path / POLICY_FILE).is_file():
        return path / POLICY_FILE, read_checkpoint(path / POLICY_FILE)
    if found is None:
        raise ValueError(f"checkpoint={checkpoint} holds no {CHECKPOINT_FILE}: no run directory, or none saved yet.")
    return found


def load_config(state: dict[str, Any], typed: EnvWords | None = None) -> Config:
    """The config of a checkpoint. ValueError where its environment would run code that `typed` does not name too."""
    config = from_dict(state["dreamer"]["config"])
    check_trusted(config.env, typed)
    return config


def load_agent(
    state: dict[str, Any], config: Config, obs_space: dict[str, Space], action_space: Space, path: Path
) -> Agent:
    """The agent of a checkpoint, ready to act; ValueError where its weights are of another architecture."""
    try:
        with torch.device("meta"):  # shapes alone: a config that asks for more than the file holds takes no memory
            shapes = Agent(config.model, obs_space, action_space, explore=config.explore)
    except (RuntimeError, TypeError, OverflowError) as error:
        raise ValueError(f"checkpoint={path} asks for networks that no machine holds: {error}.") from error
    _weights_for(shapes, state, path)
    agent = Agent(config.model, obs_space, action_space, explore=config.explore)
    load_weights(agent, state, path)
    return agent.eval()


def load_weights(agent: Agent, state: dict[str, Any], path: Path) -> None:
    agent.load_state_dict(_weights_for(agent, state, path))


def _weights_for(agent: Agent, state: dict[str, Any], path: Path) -> dict[str, torch.Tensor]:
    """The weights of a checkpoint under the agent's names; ValueError where names or shapes are not the agent's."""
    weights = {key.removeprefix("agent."): value for key, value in state["state_dict"].items()}
    ours = agent.state_dict()
    for key in [*ours, *weights]:
        if key not in ours or key not in weights or ours[key].shape != weights[key].shape:
            shapes = [tuple(side[key].shape) if key in side else "absent" for side in (weights, ours)]
            raise ValueError(
                f"checkpoint={path} is of another architecture: {key} is {shapes[0]} there and {shapes[1]} here."
            )
    return weights

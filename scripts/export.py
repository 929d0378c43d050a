"""Hand an agent on: python scripts/export.py checkpoint=<run dir or file> format=safetensors out=policy.safetensors

safetensors: weights, config and counters, for this package. No optimizer, no replay, nothing that is executed when it
is read. scripts/evaluate.py takes it as checkpoint=policy.safetensors.
onnx, torch_export: one step of the agent with everything it needs inside, for a robot without this package. It is
played beside the agent in the agent's environment before it gets its name. docs/deployment.md says how to run one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from dreamer.cli import check_output, ending_in_words, own_options, refusing_bad_input, run
from dreamer.config.bounds import bounded, one_of
from dreamer.config.compose import keys_as_typed
from dreamer.envs.trust import EnvWords

SUFFIXES = {"safetensors": ".safetensors", "onnx": ".onnx", "torch_export": ".pt2"}


@dataclass
class ExportConfig:
    checkpoint: str = MISSING
    format: str = one_of(*SUFFIXES)
    out: str | None = None
    mode: str = one_of("likeliest", "sample")
    steps: int = bounded(1000, low=1)
    seed: int = bounded(0, low=0, high=2**32 - 1)
    env: EnvWords = field(default_factory=EnvWords)


ConfigStore.instance().store(name="export_schema", node=keys_as_typed(ExportConfig, EnvWords))


@hydra.main(version_base=None, config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input(), ending_in_words():
        options = own_options(cfg, ExportConfig)
        out = output(options)
        if options.format == "safetensors":
            saved = export_weights(options, out)
            report = []
        else:
            saved, report = export_step(options, out)
    print(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {saved['config']['env']['name']} after "
        f"{saved['env_steps']:,} environment steps and {saved['updates']:,} updates"
    )
    for line in report:
        print(line)


def output(options: ExportConfig) -> Path:
    """Where the file goes; ValueError where that does not fit its format or is no place."""
    suffix = SUFFIXES[options.format]
    out = Path(options.out or f"policy{suffix}")
    if others := [name for name, other in SUFFIXES.items() if other == out.suffix.lower() != suffix]:
        raise ValueError(f"out={out} must end in {suffix}, or add format={others[0]}.")
    check_output("out", str(out), suffix)
    return out


def export_weights(options: ExportConfig, out: Path) -> dict[str, Any]:
    """Writes safetensors; returns what the checkpoint says of itself."""
    from dreamer.saved.agents import find, spaces_in
    from dreamer.saved.policy_file import SPACES, spaces_to_dict, write_policy

    path, state = find(options.checkpoint)
    state["dreamer"][SPACES] = spaces_to_dict(*spaces_in(state, path, options.env))
    write_policy(state, out)
    return state["dreamer"]


def export_step(options: ExportConfig, out: Path) -> tuple[dict[str, Any], list[str]]:
    """Writes one step of the agent and checks it; returns what the checkpoint says of itself, and what was found."""
    from dreamer.export.formats import check_installed

    check_installed(options.format)
    import torch  # seconds to import; wrong words need none

    from dreamer.envs.make import make_env
    from dreamer.export.write import describe_run, lines, write_step
    from dreamer.saved.agents import find, load_agent, load_config

    torch.set_num_threads(1)
    path, state = find(options.checkpoint)
    config = load_config(state, options.env)
    env = make_env(config.env)
    agent = load_agent(state, config, env.obs_space, env.action_space, path)
    metadata = describe_run(state["dreamer"], config)
    mode = "sample" if options.mode == "sample" else "likeliest"
    found = write_step(out, options.format, agent, env, metadata, mode, options.steps, options.seed)
    env.close()
    return state["dreamer"], lines(found, config.env.name)


if __name__ == "__main__":
    run(main, ExportConfig)

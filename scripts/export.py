"""Hand an agent on: python scripts/export.py checkpoint=<run dir or file> out=policy.safetensors

Writes weights, config and counters of a run as one safetensors file: no optimizer, no replay, nothing that is executed
when it is read. scripts/evaluate.py takes it as checkpoint=policy.safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from dreamer.cli import check_output, own_options, refusing_bad_input, run
from dreamer.config.compose import keys_as_typed
from dreamer.envs.trust import EnvWords


@dataclass
class ExportConfig:
    checkpoint: str = MISSING
    out: str = "policy.safetensors"
    env: EnvWords = field(default_factory=EnvWords)


ConfigStore.instance().store(name="export_schema", node=keys_as_typed(ExportConfig, EnvWords))


@hydra.main(version_base=None, config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = own_options(cfg, ExportConfig)
        check_output("out", options.out, ".safetensors")

        from dreamer.saved.agents import find, spaces_in
        from dreamer.saved.policy_file import SPACES, spaces_to_dict, write_policy

        out = Path(options.out)
        path, state = find(options.checkpoint)
        state["dreamer"][SPACES] = spaces_to_dict(*spaces_in(state, path, options.env))
        write_policy(state, out)
    saved = state["dreamer"]
    print(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {saved['config']['env']['name']} after "
        f"{saved['env_steps']:,} environment steps and {saved['updates']:,} updates"
    )


if __name__ == "__main__":
    run(main, ExportConfig)

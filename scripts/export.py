"""Hand an agent on: python scripts/export.py checkpoint=<run dir or file> out=policy.safetensors

Writes weights, config and counters of a run as one safetensors file: no optimizer, no replay, nothing that is executed
when it is read. scripts/evaluate.py takes it as checkpoint=policy.safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from dreamer.cli import check_output, own_options, refusing_bad_input, run


@dataclass
class ExportConfig:
    checkpoint: str = MISSING
    out: str = "policy.safetensors"


ConfigStore.instance().store(name="export_schema", node=ExportConfig)


@hydra.main(version_base=None, config_path="../conf", config_name="export")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = own_options(cfg, ExportConfig)
        check_output("out", options.out, ".safetensors")

        from dreamer.saved.agents import locate, spaces_in
        from dreamer.saved.checkpoint_file import read_checkpoint
        from dreamer.saved.policy_file import SPACES, spaces_to_dict, write_policy

        path, out = locate(options.checkpoint), Path(options.out)
        state = read_checkpoint(path)
        state["dreamer"][SPACES] = spaces_to_dict(*spaces_in(state, path))
        write_policy(state, out)
    saved = state["dreamer"]
    print(
        f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {saved['config']['env']['name']} after "
        f"{saved['env_steps']:,} environment steps and {saved['updates']:,} updates"
    )


if __name__ == "__main__":
    run(main, ExportConfig)

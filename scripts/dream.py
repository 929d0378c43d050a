"""Watch an agent dream, and steer its dream: python scripts/dream.py checkpoint=<run dir or file>

Opens a page on this computer: the episode, what the model reconstructs and what it dreams; several dreams at once from
any frame; and the dream with your own actions. docs/dream.md shows it.
Needs starlette and uvicorn: pip install -c requirements.lock -e ".[web]".
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from dreamer.cli import own_options, refusing_bad_input, run
from dreamer.config.bounds import bounded
from dreamer.config.compose import keys_as_typed
from dreamer.envs.suites.imports import install_command
from dreamer.envs.trust import EnvWords


@dataclass
class DreamConfig:
    checkpoint: str = MISSING
    seed: int = bounded(0, low=0, high=2**32 - 1)
    port: int = bounded(0, low=0, high=65535)
    viewers: int = bounded(4, low=1, high=64)
    browser: bool = True
    threads: int = bounded(1, low=1)
    env: EnvWords = field(default_factory=EnvWords)


ConfigStore.instance().store(name="dream_schema", node=keys_as_typed(DreamConfig, EnvWords))


@hydra.main(version_base=None, config_path="../conf", config_name="dream")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = own_options(cfg, DreamConfig)
        try:
            import starlette  # noqa: F401
            import uvicorn  # noqa: F401
            import websockets  # noqa: F401
        except ModuleNotFoundError as error:
            raise ValueError(f"The page needs the package {error.name}; {install_command('web')}") from error

        import torch  # seconds to import; --help and wrong words need none

        from dreamer.envs.make import make_env
        from dreamer.saved.agents import find, load_agent, load_config
        from dreamer.training.run import quiet_libraries
        from dreamer.viewer.server import listen
        from dreamer.viewer.start import check_drawing, make_engine, serve

        quiet_libraries()
        torch.set_num_threads(options.threads)
        listener = listen(options.port)
        path, state = find(options.checkpoint)
        config = load_config(state, options.env)
        check_drawing(config.env, sys.platform)
        env = make_env(config.env)
        agent = load_agent(state, config, env.obs_space, env.action_space, path)
        engine = make_engine(agent, env, config.env, options.seed, options.viewers)
        env.close()
    serve(engine, listener, options.browser)


if __name__ == "__main__":
    run(main, DreamConfig)

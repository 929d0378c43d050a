"""Evaluate a trained agent: python scripts/evaluate.py checkpoint=<run dir or file> episodes=10 seed=0 json= video=

Prints and writes the return of each episode, their mean and standard deviation. Actions are sampled, as in training.
The dream is a film of what the world model predicts of the first episode from five frames and the actions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import hydra
import numpy as np
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig

from dreamer.cli import check_output, own_options, refusing_bad_input, run
from dreamer.config.bounds import bounded
from dreamer.config.compose import keys_as_typed
from dreamer.envs.trust import EnvWords

DREAMS, DREAM_ROWS = 6, 32  # pieces of an episode in a film of dreams, and how long they are


@dataclass
class EvaluateConfig:
    checkpoint: str = MISSING
    episodes: int = bounded(10, low=1)
    seed: int = bounded(0, low=0, high=2**32 - 1)
    json: str | None = None
    video: str | None = None
    dream: str | None = None
    threads: int = bounded(1, low=1)
    env: EnvWords = field(default_factory=EnvWords)


ConfigStore.instance().store(name="evaluate_schema", node=keys_as_typed(EvaluateConfig, EnvWords))


@hydra.main(version_base=None, config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        options = own_options(cfg, EvaluateConfig)
        check_output("json", options.json)
        check_output("video", options.video, ".gif")
        check_output("dream", options.dream, ".gif")

        import torch  # seconds to import; --help and wrong words need none

        from dreamer.envs.make import make_env
        from dreamer.saved.agents import find, load_agent, load_config
        from dreamer.training.display.dreams import dream_films, pieces
        from dreamer.training.display.films import write_gif
        from dreamer.training.evaluation import evaluate
        from dreamer.training.run import quiet_libraries

        quiet_libraries()
        torch.set_num_threads(options.threads)
        path, state = find(options.checkpoint)
        config = load_config(state, options.env)
        env = make_env(config.env)
        agent = load_agent(state, config, env.obs_space, env.action_space, path)
        if options.video and env.reset(0) and env.frame() is None:
            raise ValueError(f"video={options.video}: {config.env.name} has no picture to show on this machine.")
        if options.dream and not any(space.is_image for space in env.obs_space.values()):
            raise ValueError(f"dream={options.dream}: this agent sees no pictures, so it dreams none.")

    limit = config.trainer.eval_length
    record, keep_rows = options.video is not None, options.dream is not None
    result = evaluate(agent, env, options.episodes, options.seed, limit, record, keep_rows)
    env.close()
    for index, (ret, length) in enumerate(zip(result.returns, result.lengths, strict=True)):
        print(f"episode {index}: return {ret:.1f}, {length} policy steps")
    plural = "" if options.episodes == 1 else "s"
    spread = f"{result.mean:.1f} +- {result.std:.1f}"
    print(f"{config.env.name}: {spread} over {options.episodes} episode{plural}, seed {options.seed}")
    if options.json:
        report = {
            "returns": result.returns,
            "mean": result.mean,
            "std": result.std,
            "env": config.env.name,
            "config_digest": state["dreamer"]["digest"],
            "checkpoint": options.checkpoint,
            "env_steps": state["dreamer"]["env_steps"],
            "seed": options.seed,
        }
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.video:
        write_gif(Path(options.video), result.frames)
        print(f"{options.video}: episode 0")
    if options.dream:
        films = dream_films(agent, pieces(result.sequences[0], DREAMS, DREAM_ROWS), options.seed)
        write_gif(Path(options.dream), [np.concatenate(frames, 1) for frames in zip(*films.values(), strict=True)])
        print(f"{options.dream}: pieces of episode 0, what the model predicts of them, the error")


if __name__ == "__main__":
    run(main, EvaluateConfig)

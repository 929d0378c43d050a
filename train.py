"""Train an agent: python train.py env=walker_walk [key=value ...]; --help lists the keys."""

import hydra
from omegaconf import DictConfig

from dreamer.cli import ending_in_words, job_config, refusing_bad_input, run, words_of_job
from dreamer.config.compose import parse, register

register()


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> None:
    with refusing_bad_input():
        config = parse(job_config(cfg))
        from dreamer.training.run import prepare  # torch takes seconds to import; --help and wrong words need none

        training = prepare(config, words_of_job())
        training.claim()
    with ending_in_words():
        training.fit()


if __name__ == "__main__":
    run(main)

"""Train an agent: python train.py env=walker_walk [key=value ...]; --help lists the keys."""

import hydra
from omegaconf import DictConfig

from dreamer.cli import ending_in_words, job_config, refusing_bad_input, run, words_of_job
from dreamer.config.compose import parse, register

register()


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(cfg: DictConfig) -> float | None:
    from dreamer.sweep.job import job_of_sweep

    with refusing_bad_input():
        config = parse(job_config(cfg))
        job = job_of_sweep(config)
        if job and job.is_done():
            return job.ret
        from dreamer.training.run import prepare  # torch takes seconds to import; --help and wrong words need none

        training = prepare(config, words_of_job())
        job = job if training.is_first else None  # other ranks have no part in a sweep
        training.outside = job
        training.claim()
    if job:
        job.begin()
    with ending_in_words():
        training.fit()
    return job.end(training.pruned) if job else None


if __name__ == "__main__":
    run(main)

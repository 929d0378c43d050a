"""DreamerV3. The folders are the data flow:

    envs -> data (collector -> replay -> dataset) -> training/module.py -> logger, checkpoint
                                                         |
                   world_model -> behavior (imagination -> actor_critic), both in agent.py

| equation of the paper                       | function                                                      |
|---------------------------------------------|---------------------------------------------------------------|
| symlog, symexp, two-hot loss                | ops/symlog.py: symlog, symexp, two_hot_loss, two_hot_mean     |
| encoder                                     | nn/encoder.py, world_model/rssm.py: RSSM.posterior            |
| sequence model, dynamics predictor          | world_model/rssm.py: RSSM.recur, RSSM.prior                   |
| decoder, reward and continue predictors     | nn/decoder.py, nn/heads.py                                    |
| dynamics and representation loss, free nats | nn/distributions.py: kl_losses                                |
| world-model loss                            | world_model/world_model.py: WorldModel.loss                   |
| imagined trajectories                       | behavior/imagination.py: imagine                              |
| lambda-return                               | ops/returns.py: lambda_return                                 |
| return normalisation                        | behavior/actor_critic.py: PercentileRange                     |
| actor and critic loss                       | behavior/actor_critic.py: actor_loss, ActorCritic.critic_loss |
| critic loss on replayed trajectories        | behavior/actor_critic.py: ActorCritic.replay_loss             |
| slow critic                                 | behavior/actor_critic.py: SlowCopy                            |
| LaProp, adaptive gradient clipping          | nn/optim.py: LaProp, clip_to_parameters_                      |
| one update                                  | training/module.py: DreamerModule.training_step               |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dreamer.saved.agents import load

    __version__: str

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """`dreamer.load` and `dreamer.__version__`, once they are asked for: `import dreamer` alone imports nothing."""
    if name == "load":
        from dreamer.saved.agents import load

        return load
    if name == "__version__":
        from importlib.metadata import version

        return version("dreamer-torch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

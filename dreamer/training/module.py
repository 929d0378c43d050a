"""One DreamerV3 update as a LightningModule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor

from dreamer import ranks
from dreamer.agent import Agent
from dreamer.behavior.imagination import dream_step, imagine
from dreamer.config.schema import ModelConfig
from dreamer.nn.optim import LaProp
from dreamer.types import Batch, Latent
from dreamer.world_model.world_model import feature


class DreamerModule(L.LightningModule):
    """World model, imagination, actor and critic under one optimizer: one backward pass, one step.

    So Lightning's `global_step` is the number of updates. Latents that replay must store again leave `training_step`
    as an output; a callback writes them back.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.agent = agent
        self.dream_step = dream_step
        self.after_phase: Callable[[str], None] = lambda phase: None  # dreamer/benchmark/update.py takes the time here

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        output = self.differentiate(batch)
        ranks.average_([p.grad for p in self.agent.parameters() if p.grad is not None])
        grad_norm = self.apply_update()
        self.agent.actor_critic.slow_critic.track(self.agent.actor_critic.critic)
        self.after_phase("optimizer")
        return {**output, "metrics": {**output["metrics"], "grad/norm": grad_norm}}

    def differentiate(self, batch: Batch) -> dict[str, Any]:
        """All losses of an update, and the gradient of their weighted sum in every parameter.

        On a GPU it is recorded and repeated (training/speed/cuda_graph.py): no number may come from Python that changes
        between updates.
        """
        agent, config = self.agent, self.agent.config
        world_model, actor_critic = agent.world_model, agent.actor_critic
        with agent.autocast():
            post = world_model.observe(batch)  # encoder and recurrent model
            self.after_phase("observe")
            recent = last_rows(post.latent, config.imagination.last)
            start = Latent(*(part.detach().flatten(0, 1) for part in recent))
            rollout = imagine(
                world_model, actor_critic.actor, start, config.imagination.horizon, actor_critic.use_dynamics,
                self.dream_step,
            )  # fmt: skip
            self.after_phase("imagine")
            model = world_model.loss(batch, post)  # reconstruction, reward, continue, dynamics, representation
            explored = agent.explore(rollout, batch, post)  # rewards as they are, or with a bonus
            behavior = actor_critic.loss(explored.rollout)  # actor and critic, on imagined trajectories
            bootstrap = behavior.ret[:, 0].unflatten(0, recent.deter.shape[:2])
            replay_value = actor_critic.replay_loss(
                explored.batch, feature(recent), bootstrap
            )  # critic, on replayed ones

        self.after_phase("heads")
        losses = {**model.losses, **behavior.losses, **explored.losses, "replay_value": replay_value}
        total = torch.stack([agent.loss_scale(name) * loss.mean() for name, loss in losses.items()]).sum()
        agent.zero_grad()
        total.backward()
        self.after_phase("backward")

        metrics = {f"loss/{name}": loss.detach().mean() for name, loss in losses.items()}
        metrics.update({**model.metrics, **explored.metrics, **behavior.metrics})
        metrics["loss/total"] = total.detach()
        latent = post.latent
        return {"metrics": metrics, "deter": latent.deter.detach(), "stoch": latent.stoch.detach().argmax(-1)}

    def apply_update(self) -> Tensor:
        """One optimizer step; returns the gradients' norm before clipping."""
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer), type(optimizer)
        grads = [p.grad for p in self.agent.parameters() if p.grad is not None]
        grad_norm = torch.stack(torch._foreach_norm(grads)).norm()
        optimizer.step()
        return grad_norm

    def configure_optimizers(self) -> LaProp:
        return build_optimizer(self.agent, self.agent.config)


def last_rows(latent: Latent, rows: int) -> Latent:
    """The last `rows` of each sequence [B T], or all where `rows` is 0."""
    return Latent(latent.deter[:, -rows:], latent.stoch[:, -rows:])


def build_optimizer(agent: Agent, config: ModelConfig) -> LaProp:
    """LaProp with the parameter groups world, actor and critic, each with its own rate where the config has one."""
    optim = config.optim
    rates = {"world": optim.world_lr, "actor": optim.actor_lr, "critic": optim.critic_lr}
    groups = [
        {"params": params, "lr": optim.lr if rates[name] is None else rates[name], "name": name}
        for name, params in agent.parameter_groups().items()
    ]
    return LaProp(groups, optim.lr, optim.agc, (optim.beta1, optim.beta2), optim.eps, optim.warmup)

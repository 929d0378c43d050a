"""torch.compile and CUDA graphs for acting and the parts of an update: when they pay, and which parts."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behavior.explore.disagreement import Disagreement
from dreamer.training.module import DreamerModule
from dreamer.training.speed.cuda_graph import CudaGraph
from dreamer.types import Latent

UPDATES_THAT_PAY = 4000
"""Updates from which on compiling is the faster way: it takes 1 to 3 minutes on two cores and saves 8 to 37 %."""

ROWS_AT_ONCE = 4
"""Rows of `RSSM.observe` in a piece of compiled code: with one, a quarter of the time goes into calling them."""


def choose_compile(word: str, updates: float) -> bool:
    """Whether trainer.compile=auto|on|off asks for it; `updates` is how many the run has in all."""
    if word == "off" or (word == "auto" and updates < UPDATES_THAT_PAY):
        return False
    reason = missing_compiler()
    if reason and word == "on":
        raise ValueError(f"trainer.compile=on needs a C++ compiler: {reason}. Install one, or use trainer.compile=off.")
    if reason:
        print(f"trainer.compile=auto: off, no C++ compiler ({reason}); with one, updates take 8 to 37 % less time.")
    return not reason


def missing_compiler() -> str:
    """Why torch.compile cannot build for this CPU, or nothing."""
    from torch._inductor.cpp_builder import get_cpp_compiler  # a second to import

    try:
        get_cpp_compiler()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def uses_graphs(wish: bool, device: torch.device) -> bool:
    """Whether trainer.cuda_graphs asks for them: there are none but on CUDA devices."""
    return wish and device.type == "cuda"


def record_graphs(module: DreamerModule) -> None:
    """Have the GPU repeat a policy step, and the losses and gradients of an update, from a recording of each.

    The thread of trainer.overlap acts with a copy of the agent, taken before, whose policy step is not recorded.
    """
    gc.collect()  # recordings of an earlier run in this process would hold their memory until some later collection
    module.differentiate = recorded(module.differentiate, has_one_shape=True)
    record_acting(module.agent)


def record_acting(agent: Agent) -> None:
    agent.act_step = recorded(agent.act_step)


def recorded(function: Callable[..., Any], has_one_shape: bool = False) -> Callable[..., Any]:
    return CudaGraph(function, has_one_shape)


def compile_parts(module: DreamerModule) -> None:
    """Compile a policy step, and piece by piece what an update is made of.

    Videos and the losses of evaluations go on with the plain functions.
    Pieces are some rows of what is observed and a step of imagination: a graph of a whole loop takes minutes to
    compile and is no faster. A thread of environments acts with a copy of the agent, taken before, whose policy step is
    not compiled.
    """
    world_model, actor_critic = module.agent.world_model, module.agent.actor_critic
    for owner, name in (
        (world_model.encoder, "forward"),
        (world_model, "loss"),
        (actor_critic, "loss_of_constants"),
        (actor_critic, "replay_loss"),
    ):
        setattr(owner, name, WithGradient(getattr(owner, name)))
    world_model.rssm.observe = InPieces(world_model.rssm.observe)
    world_model.predict = compiled(world_model.predict)
    actor_critic.value = compiled(actor_critic.value)
    if isinstance(module.agent.explore, Disagreement):
        module.agent.explore.predict = compiled(module.agent.explore.predict)
    module.dream_step = compiled(module.dream_step)
    compile_acting(module.agent)


def compile_acting(agent: Agent) -> None:
    agent.act_step = compiled(agent.act_step)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    # Random numbers come from torch's own generators, so that a resumed run draws the same ones.
    return torch.compile(function, dynamic=False, options={"fallback_random": True})


class WithGradient:
    """The compiled function where a gradient is asked for, which is in an update; the plain one elsewhere."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.plain, self.compiled = function, compiled(function)

    def __call__(self, *args: Any) -> Any:
        return (self.compiled if torch.is_grad_enabled() else self.plain)(*args)


class InPieces:
    """`RSSM.observe` of an update, compiled for a few rows of the sequences at a time."""

    def __init__(self, observe: Callable[..., Any]) -> None:
        self.plain, self.compiled = observe, compiled(observe)

    def __call__(self, embed: Tensor, prev_action: Tensor, is_first: Tensor, start: Latent) -> tuple[Latent, Tensor]:
        if not torch.is_grad_enabled():
            return self.plain(embed, prev_action, is_first, start)
        latents, logits = [], []
        # Pieces are all alike to torch.compile if the first one's start can have a gradient too.
        start = Latent(*(part.detach().requires_grad_() for part in start))
        for piece in zip(*(rows.split(ROWS_AT_ONCE, 1) for rows in (embed, prev_action, is_first)), strict=True):
            latent, logit = self.compiled(*piece, start)
            latents.append(latent)
            logits.append(logit)
            start = Latent(latent.deter[:, -1].contiguous(), latent.stoch[:, -1].contiguous())  # strides count too
        deter, stoch = zip(*latents, strict=True)
        return Latent(torch.cat(deter, 1), torch.cat(stoch, 1)), torch.cat(logits, 1)

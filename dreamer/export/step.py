"""One step of an agent as a function of arrays alone, which a file can hold."""

from __future__ import annotations

import copy
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from dreamer.agent import Agent
from dreamer.envs.spec import ActionChoices, ActionRange, Env, HasUnits
from dreamer.types import Space

Mode = Literal["likeliest", "sample"]


class PolicyStep(nn.Module):
    """What the agent sees, and its state -> the action, and its next state.

    obs: key -> [...] as in `Agent.obs_space`, no first axis: one environment alone
    state, next state: float32 [1 + D + S + n], the entries of `parts`. All zeros begin an episode
    action: float32 [A] or int32 [n], as the environment itself counts it (`units`)
    mode "likeliest": z and the action are the most likely ones. "sample": they are drawn with noise_z, float32 [S]
    uniform in [0, 1), and with noise_action, float32 [n], uniform too for choices, else standard normal

    It shares the weights that act with `agent`, which learns no more.
    """

    center: Tensor
    reach: Tensor
    least: Tensor
    most: Tensor
    is_whole: Tensor
    first: Tensor

    def __init__(self, agent: Agent, units: ActionRange | ActionChoices, mode: Mode) -> None:
        super().__init__()
        assert agent.action_space.is_discrete == isinstance(units, ActionChoices), units
        self.agent, self.mode, self.units = acting_part(agent).requires_grad_(False).eval(), mode, units
        rssm, (num_actions,) = agent.world_model.rssm, agent.action_space.shape
        self.parts = {"has_begun": 1, "deter": rssm.deter, "stoch": rssm.stoch, "action": num_actions}
        arrays = {"first": units.first.astype(np.int32)} if isinstance(units, ActionChoices) else as_float32(units)
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array))

    def forward(
        self,
        obs: dict[str, Tensor],
        state: Float[Tensor, " state"],
        noise_z: Float[Tensor, " S"] | None = None,
        noise_action: Float[Tensor, " n"] | None = None,
    ) -> tuple[Shaped[Tensor, " n"], Float[Tensor, " state"]]:
        has_begun, deter, stoch, last = state.unsqueeze(0).split(list(self.parts.values()), dim=-1)
        if self.agent.action_space.is_discrete:
            last = last.int()
        rows = {key: value[None, None] for key, value in obs.items()}
        noise = (None, None)
        if self.mode == "sample":
            assert noise_z is not None and noise_action is not None, "what is sampled needs noise"
            noise = (noise_z[None], noise_action[None])
        action, deter, stoch = self.agent.act_step(rows, deter, stoch.long(), last, has_begun[:, 0] == 0, noise)
        next_state = torch.cat([torch.ones_like(has_begun), deter, stoch.float(), action.float()], dim=-1)
        return self.translate(action[0]), next_state[0]

    def translate(self, action: Shaped[Tensor, " n"]) -> Shaped[Tensor, " n"]:
        """From the agent's own actions to the environment's."""
        if self.agent.action_space.is_discrete:
            return action + self.first
        value = self.center + action.clamp(-1, 1) * self.reach  # exact where the range is [-1, 1]
        value = torch.where(self.is_whole, value.round(), value)
        return torch.minimum(torch.maximum(value, self.least), self.most)

    def start(self) -> Float[Tensor, " state"]:
        """The state in which an episode begins."""
        return torch.zeros(sum(self.parts.values()))

    def example(self) -> tuple[dict[str, Tensor] | Tensor, ...]:
        """Arguments of `forward`, all zeros."""
        obs = {key: torch.from_numpy(np.zeros(space.shape, space.dtype)) for key, space in self.agent.obs_space.items()}
        noise = [torch.zeros(shape) for shape in self.noise_shapes.values()]
        return (obs, self.start(), *noise)

    @property
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the noise that `forward` takes, in its order."""
        if self.mode == "likeliest":
            return {}
        return {"noise_z": (self.parts["stoch"],), "noise_action": (self.parts["action"],)}


def acting_part(agent: Agent) -> Agent:
    """The agent without decoder, prior, heads and critics, with the weights themselves and no copies of them."""
    world, behavior = agent.world_model, agent.actor_critic
    kept = (world.standardize, world.encoder, world.rssm, world.rssm.cell, world.rssm.posterior_net, behavior.actor)
    parts = [agent.explore, *(part for owner in (world, world.rssm, behavior) for part in owner.children())]
    memo: dict[int, nn.Module] = {id(part): nn.Identity() for part in parts if part not in kept}
    memo |= {id(part): part for part in kept if part is not world.rssm}
    return copy.deepcopy(agent, memo)


def units_of(env: Env) -> ActionRange | ActionChoices:
    """What the environment calls an action; where it does not say, what we call it."""
    return env.action_units if isinstance(env, HasUnits) else plain_units(env.action_space)


def plain_units(space: Space) -> ActionRange | ActionChoices:
    (size,) = space.shape
    if space.is_discrete:
        return ActionChoices(np.zeros(size, np.int64))
    one = np.ones(size)
    return ActionRange(-one, one, -one, one, np.zeros(size, bool))


def as_float32(units: ActionRange) -> dict[str, np.ndarray]:
    """A range as center and reach to both sides, with its bounds, float32 or bool [A]."""
    arrays = {
        "center": (units.low + units.high) / 2,
        "reach": (units.high - units.low) / 2,
        "least": units.least,
        "most": units.most,
    }
    with np.errstate(over="ignore"):
        return {**{name: array.astype(np.float32) for name, array in arrays.items()}, "is_whole": units.is_whole}

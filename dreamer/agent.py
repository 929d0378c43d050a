"""World model and actor critic as one module, and how it acts in an environment."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from dreamer.behavior.actor_critic import ActorCritic
from dreamer.behavior.explore.make import make_explore
from dreamer.config.schema import LOSS_NAMES, ExploreConfig, ModelConfig
from dreamer.nn.distributions import one_hot, straight_through
from dreamer.types import Latent, LatentArrays, Space
from dreamer.world_model.world_model import WorldModel, action_vector, feature


class Agent(nn.Module):
    """DreamerV3. A `Session` or training/player.py acts with it, training/module.py holds the losses of an update."""

    def __init__(
        self,
        config: ModelConfig,
        obs_space: dict[str, Space],
        action_space: Space,
        precision: Literal["float32", "bfloat16"] = "float32",
        explore: ExploreConfig | None = None,
    ) -> None:
        super().__init__()
        if clash := LOSS_NAMES.intersection(obs_space):
            raise ValueError(f"Observation keys {sorted(clash)} are names of losses; rename them in the environment.")
        self.config, self.obs_space, self.action_space, self.precision = config, obs_space, action_space, precision
        self.world_model = WorldModel(config, obs_space, action_space)
        self.actor_critic = ActorCritic(config, self.world_model.features, action_space)
        self.explore = make_explore(explore or ExploreConfig(), config, self.world_model.features, action_space)

    def loss_scale(self, name: str) -> float:
        """Weight of a loss in the total: of a reconstructed key `rec`, or `rec_vector` if it is no image."""
        scales = self.config.loss_scales
        if name not in self.obs_space:
            return getattr(scales, name)
        if scales.rec_vector is None or self.obs_space[name].is_image:
            return scales.rec
        return scales.rec_vector

    def autocast(self) -> torch.autocast:
        """bfloat16 products where `precision` says so; norms, losses and distributions stay float32."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16")

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters as "world", "actor" and "critic"."""
        return {
            "world": [*self.world_model.parameters(), *self.explore.parameters()],
            "actor": list(self.actor_critic.actor.parameters()),
            "critic": list(self.actor_critic.critic.parameters()),
        }

    def initial(self, num_envs: int) -> LatentArrays:
        rssm = self.world_model.rssm
        return {
            "deter": np.zeros((num_envs, rssm.deter), np.float32),
            "stoch": np.zeros((num_envs, rssm.stoch), np.int16),
        }

    def session(self, num_envs: int = 1, seed: int = 0, mode: bool = False) -> Session:
        """Begin to act in `num_envs` environments; `seed` decides what is drawn, `mode` takes the likeliest actions."""
        return Session(self, num_envs, seed, mode)

    @torch.inference_mode()
    def act(
        self,
        obs: dict[str, np.ndarray],
        prev_latent: LatentArrays,
        prev_action: np.ndarray,
        is_first: np.ndarray,
        generator: torch.Generator | None = None,
        mode: bool = False,
    ) -> tuple[np.ndarray, LatentArrays]:
        """One policy step in N environments; see `types.Policy` for the shapes.

        Actions are sampled or, with `mode`, the most likely ones. Draws come from `generator`, or without one from
        torch's global generator.
        """
        device = self.device
        tensors = {key: torch.as_tensor(obs[key], device=device).unsqueeze(1) for key in self.obs_space}
        deter, stoch = (torch.as_tensor(prev_latent[part], device=device) for part in ("deter", "stoch"))
        last = torch.as_tensor(prev_action, device=device)
        resets = torch.as_tensor(is_first, device=device)
        noise_z, noise_action = self.draw_noise(len(is_first), generator)
        noise = (noise_z, None if mode else noise_action)
        action, deter, stoch = self.act_step(tensors, deter, stoch, last, resets, noise)
        return action.cpu().numpy(), {"deter": deter.cpu().numpy(), "stoch": stoch.cpu().numpy()}

    def draw_noise(
        self, num_envs: int, generator: torch.Generator | None
    ) -> tuple[Float[Tensor, "N S"], Float[Tensor, "N n"]]:
        """The random numbers of one policy step, for z and for the action."""
        draw = torch.rand if self.action_space.is_discrete else torch.randn
        return (
            torch.rand(num_envs, self.world_model.rssm.stoch, device=self.device, generator=generator),
            draw(num_envs, *self.action_space.shape, device=self.device, generator=generator),
        )

    def act_step(
        self,
        obs: dict[str, Tensor],
        deter: Float[Tensor, "N D"],
        stoch: Int[Tensor, "N S"],
        prev_action: Shaped[Tensor, "N n"],
        is_first: Bool[Tensor, " N"],
        noise: tuple[Float[Tensor, "N S"] | None, Float[Tensor, "N n"] | None],
    ) -> tuple[Shaped[Tensor, "N n"], Float[Tensor, "N D"], Int[Tensor, "N S"]]:
        """`act` in tensors, obs [N 1 ...]: the action, h and class indices of z.

        z and the action are sampled, or the most likely ones where they have no noise.
        """
        rssm, (noise_z, noise_action) = self.world_model.rssm, noise
        start, last = self.world_model.context(deter, stoch), action_vector(prev_action, self.action_space)
        with self.autocast():
            embed = self.world_model.embed(obs)[:, 0]
            h, logits = rssm.filter_step(start, embed, last, is_first)
            if noise_z is None:
                latent = Latent(h, one_hot(logits.argmax(-1), rssm.classes))
            else:
                latent = Latent(h, straight_through(logits, rssm.unimix, noise_z))
            policy = self.actor_critic.actor(feature(latent))
            action = policy.mode() if noise_action is None else policy.sample(noise_action)
        return action, latent.deter.float(), latent.stoch.argmax(-1).to(torch.int16)


class Session:
    """An agent at work: it remembers what it saw in each of its environments, and draws from a generator of its own."""

    def __init__(self, agent: Agent, num_envs: int, seed: int, mode: bool) -> None:
        self._agent, self.num_envs, self._mode = agent, num_envs, mode
        self._generator = torch.Generator(agent.device).manual_seed(seed)
        self._latent, space = agent.initial(num_envs), agent.action_space
        self._action = np.zeros((num_envs, *space.shape), space.dtype)

    def act(self, obs: dict[str, Any], is_first: Any) -> np.ndarray:
        """The next action in every environment, float32 in [-1, 1] or int32 choices: [num_envs ...].

        obs: key -> [num_envs ...] of the shapes and types in `Agent.obs_space`; is_first [num_envs]: which of them have
        just been reset. With one environment all of these may lack their first axis, and then so does the action.
        ValueError where a key is missing, of another shape or type, or not finite.
        """
        rows = {key: self._checked(obs, key, space) for key, space in self._agent.obs_space.items()}
        is_single = self.num_envs == 1 and np.ndim(is_first) == 0
        if is_single:
            rows, is_first = {key: row[None] for key, row in rows.items()}, [is_first]
        for key, row in rows.items():
            expected = (self.num_envs, *self._agent.obs_space[key].shape)
            if row.shape != expected or np.shape(is_first) != expected[:1]:
                raise ValueError(
                    f"obs[{key!r}] has the shape {row.shape} and is_first {np.shape(is_first)}; this session of "
                    f"{self.num_envs} takes {expected} and {expected[:1]}."
                )
        resets = np.asarray(is_first, bool)
        self._action, self._latent = self._agent.act(
            rows, self._latent, self._action, resets, self._generator, self._mode
        )
        action = self._action.copy()  # the caller may change its own
        return action[0] if is_single else action

    def _checked(self, obs: dict[str, Any], key: str, space: Space) -> np.ndarray:
        if key not in obs:
            raise ValueError(f"obs has no {key!r}; this agent sees {', '.join(self._agent.obs_space)}.")
        row = np.asarray(obs[key])
        if not np.can_cast(row.dtype, space.dtype, "same_kind"):
            raise ValueError(f"obs[{key!r}] is {row.dtype}; this agent sees {space.dtype}.")
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise ValueError(f"obs[{key!r}] holds values that are not finite.")
        if space.is_discrete and ((row < 0) | (row >= np.array(space.classes))).any():
            raise ValueError(f"obs[{key!r}] holds a choice that is none of {space.classes}.")
        return row.astype(space.dtype)

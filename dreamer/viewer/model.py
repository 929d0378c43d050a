"""What a viewer asks of an agent: states from observations or from dreams, and what the model tells of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from dreamer.agent import Agent
from dreamer.nn.distributions import categorical_kl, straight_through, unimix_log_probs
from dreamer.types import Latent
from dreamer.world_model.world_model import action_vector, feature


class Told(NamedTuple):
    """What the heads say of N states: reward, value and the probability of going on, float32 [N]."""

    reward: np.ndarray
    value: np.ndarray
    cont: np.ndarray


class Seen(NamedTuple):
    """A row that the model was shown.

    latent: the state after it, [1]; embed: the encoder's view of it, [1 E]
    kl: how far the posterior is from the prior, in nats: what the row told that the model did not expect
    """

    latent: Latent
    embed: Float[Tensor, "1 E"]
    kl: float


class Model:
    """An agent's world model and policy, N states at a time. Random numbers come from a generator of the caller."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.world_model, self.actor_critic = agent.world_model, agent.actor_critic
        self.rssm, self.obs_space, self.action_space = self.world_model.rssm, agent.obs_space, agent.action_space

    def nothing(self) -> Latent:
        """The state before an episode, [1]."""
        rssm = self.rssm
        return Latent(torch.zeros(1, rssm.deter), torch.zeros(1, rssm.stoch, rssm.classes))

    @torch.inference_mode()
    def see(
        self,
        latent: Latent,
        obs: dict[str, np.ndarray],
        prev_action: np.ndarray,
        is_first: bool,
        noise: Float[Tensor, "1 S"],
    ) -> Seen:
        """Show the model a row of reality: obs without a batch axis, and the action [n] that led to it."""
        tensors = {key: torch.as_tensor(np.asarray(obs[key]))[None, None] for key in self.obs_space}
        embed = self.world_model.embed(tensors)[:, 0]
        last = action_vector(torch.as_tensor(prev_action)[None], self.action_space)
        latent, logits = self.rssm.observe_step(latent, embed, last, torch.tensor([is_first]), noise)
        return Seen(latent, embed, float(self._kl(logits, latent.deter)))

    @torch.inference_mode()
    def imagine(self, latent: Latent, action: np.ndarray, noise: Float[Tensor, "N S"]) -> Latent:
        """The state that the model expects after an action [N n], z drawn from the prior."""
        deter = self.rssm.recur(latent, action_vector(torch.as_tensor(action), self.action_space))
        return Latent(deter, straight_through(self.rssm.prior(deter), self.rssm.unimix, noise))

    @torch.inference_mode()
    def act(self, latent: Latent, noise: Float[Tensor, "N n"]) -> np.ndarray:
        """An action of the policy in each state, [N n] as the environment takes it."""
        return self.actor_critic.actor(feature(latent)).sample(noise).numpy()

    @torch.inference_mode()
    def tell(self, latent: Latent) -> Told:
        """Expected reward, value, and probability of going on with the discount taken out again."""
        feat = feature(latent)
        reward, cont = self.world_model.predict(feat)
        going_on = (cont / self.world_model.config.discount).clamp(max=1)
        return Told(reward.numpy(), self.actor_critic.value(feat).numpy(), going_on.numpy())

    @torch.inference_mode()
    def decode(self, latent: Latent, pictures: int) -> dict[str, np.ndarray]:
        """Observations that belong to N states: pictures uint8 of the first `pictures`, vectors of all."""
        decoder, deter, stoch = self.world_model.decoder, latent.deter[:, None], latent.stoch[:, None].flatten(-2)
        outputs = decoder.predict_vectors(deter, stoch)
        if pictures:
            outputs |= decoder.predict_images(deter[:pictures], stoch[:pictures])
        values = self.world_model.standardize.undo(decoder.observations(outputs)) if outputs else {}
        decoded = {}
        for key, value in values.items():
            is_image = self.obs_space[key].is_image
            decoded[key] = ((value * 255).round().to(torch.uint8) if is_image else value)[:, 0].numpy()
        return decoded

    @torch.inference_mode()
    def surprise(self, latent: Latent, embed: Float[Tensor, "1 E"]) -> Float32[np.ndarray, " N"]:
        """How surprised each of N dreams would be by what really happened: KL of posterior and prior there, nats."""
        logits = self.rssm.posterior(latent.deter, embed.expand(len(latent.deter), -1))
        return self._kl(logits, latent.deter).numpy()

    def _kl(self, logits: Float[Tensor, "N S K"], deter: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
        prior = self.rssm.prior(deter)
        return categorical_kl(*(unimix_log_probs(item, self.rssm.unimix) for item in (logits, prior)))

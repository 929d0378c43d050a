"""The words that every floor shares: spaces, one environment step, latents, batches and the Policy protocol.

Dimension letters in shapes: B batch, T time, N imagined starts, H horizon (H1 = H + 1), S stochastic groups,
K classes per group, D deter, E embedding, F feature, A action vector, U units, G blocks, M heads of an ensemble; h w c
pixels. Batch first,
time second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor  # the processes of environments need the spaces here, and no torch


@dataclass(frozen=True)
class Space:
    """Shape and type of one observation key, or of the action.

    image: uint8 [h w c]. vector: float32 of any shape, () included. discrete: int32 [n], entry i with
    `classes[i]` values.
    A continuous action is float32 [A], each entry in [-1, 1]. A discrete action is int32 [n]; n = 1 for a plain choice.
    """

    shape: tuple[int, ...]
    dtype: str
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.dtype in ("uint8", "float32", "int32"), self.dtype
        assert bool(self.classes) == (self.dtype == "int32"), (self.dtype, self.classes)
        assert not self.classes or self.shape == (len(self.classes),), (self.shape, self.classes)

    def to_dict(self) -> dict[str, Any]:
        return {"shape": list(self.shape), "dtype": self.dtype, "classes": list(self.classes)}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Space:
        """The inverse of to_dict; ValueError, LookupError or TypeError where these values are no space."""
        shape, dtype, classes = tuple(values["shape"]), values["dtype"], tuple(values["classes"])
        is_valid = all(type(size) is int and 0 <= size < 2**31 for size in (*shape, *classes)) and len(shape) <= 8
        is_discrete = dtype == "int32"
        if not is_valid or dtype not in ("uint8", "float32", "int32") or bool(classes) != is_discrete:
            raise ValueError(f"no space: {dtype} of {len(shape)} axes")
        if is_discrete and shape != (len(classes),):
            raise ValueError("no space: classes of another number than the shape")
        return Space(shape, dtype, classes)

    @property
    def is_image(self) -> bool:
        return self.dtype == "uint8" and len(self.shape) == 3

    @property
    def is_discrete(self) -> bool:
        return bool(self.classes)

    @property
    def size(self) -> int:
        """Length of the flat vector that a network sees: one-hots concatenated, or all entries."""
        return sum(self.classes) if self.classes else math.prod(self.shape)


class TimeStep(NamedTuple):
    """What an environment returns: the observation x_t and the reward r_t that came *with* it.

    is_last marks the final row of an episode, whatever ended it; is_terminal only a true end (no time limit).
    """

    obs: dict[str, np.ndarray]
    reward: float
    is_first: bool
    is_last: bool
    is_terminal: bool


class Latent(NamedTuple):
    """State of the recurrent state-space model: deter h_t [... D] and one-hot stoch z_t [... S K]."""

    deter: Tensor
    stoch: Tensor


class Batch(NamedTuple):
    """Replayed sequences. Row t holds x_t, the reward and flags that came with it, and the action that led to it.

    obs: key -> [B T ...]; prev_action [B T A] float32, or [B T n] int32 where actions are discrete
    reward [B T] float32; is_first, is_last, is_terminal [B T] bool
    context_deter [B D], context_stoch [B S] int64: stored latent of the row before the first (stoch as class indices)
    row_ids [B 2] int64: (stream, index of the first trained row), for writing refreshed latents back
    """

    obs: dict[str, Tensor]
    prev_action: Tensor
    reward: Tensor
    is_first: Tensor
    is_last: Tensor
    is_terminal: Tensor
    context_deter: Tensor
    context_stoch: Tensor
    row_ids: Tensor


LatentArrays = dict[str, np.ndarray]
"""A latent as replay stores it: "deter" float32 [N D] and "stoch" int16 [N S] class indices."""


@runtime_checkable
class Policy(Protocol):
    """What the collector sees of an agent."""

    def initial(self, num_envs: int) -> LatentArrays: ...

    def refresh(self) -> None:
        """Act with the newest weights from here on. Never called while `act` runs in another thread."""
        ...

    def act(
        self,
        obs: dict[str, np.ndarray],
        prev_latent: LatentArrays,
        prev_action: np.ndarray,
        is_first: np.ndarray,
    ) -> tuple[np.ndarray, LatentArrays]:
        """One step in every environment.

        obs: key -> [N ...]; prev_latent of the step before; prev_action [N A] float32 or [N n] int32; is_first [N] bool
        (those rows start from zeros, whatever came before). Returns the sampled action, shaped like prev_action, and
        the latent of this step.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """What `act` needs besides the weights: the state of its random numbers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

"""How many updates are due: the train ratio."""

from __future__ import annotations


class TrainRatio:
    """Updates due per policy step: train_ratio / trained rows per update, with the fraction carried over.

    The first call returns 1 and starts the count, as in the authors' code; steps before it ask for nothing. During
    the first `early_steps` policy steps the ratio is `early_ratio` at most; the authors' code has no such limit.
    """

    def __init__(
        self, train_ratio: float, rows_per_update: int, early_ratio: float | None = None, early_steps: int = 0
    ) -> None:
        self.updates_per_step = train_ratio / rows_per_update
        self.early_steps, self.early_share = 0, 1.0
        if early_ratio is not None and early_ratio < train_ratio:
            self.early_steps, self.early_share = early_steps, early_ratio / train_ratio
        self._paid_until: float | None = None  # weighted policy steps for which all updates have been asked for

    def updates_by(self, policy_steps: int) -> float:
        """Updates that so many policy steps ask for at most, were they counted from the first on."""
        return 1 + self._weighted(policy_steps) * self.updates_per_step

    @property
    def has_begun(self) -> bool:
        return self._paid_until is not None

    def __call__(self, policy_steps: int) -> int:
        if self.updates_per_step == 0:
            return 0
        if self._paid_until is None:
            self._paid_until = self._weighted(policy_steps)
            return 1
        updates = self._due(self._paid_until, policy_steps)
        self._paid_until += updates / self.updates_per_step
        return updates

    def steps_until_due(self, policy_steps: int, stride: int) -> int:
        """After how many more times `stride` policy steps a call will return the next updates; it must have begun."""
        assert self._paid_until is not None and self.updates_per_step > 0
        steps = 1
        while not self._due(self._paid_until, policy_steps + steps * stride):
            steps += 1
        return steps

    def _due(self, paid_until: float, policy_steps: int) -> int:
        return int((self._weighted(policy_steps) - paid_until) * self.updates_per_step)

    def _weighted(self, policy_steps: int) -> float:
        """Policy steps, each early one as the part of a later one that its ratio makes it."""
        early = min(policy_steps, self.early_steps)
        return policy_steps - early + early * self.early_share

    def state_dict(self) -> dict[str, float | None]:
        return {"paid_until": self._paid_until}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self._paid_until = state["paid_until"]

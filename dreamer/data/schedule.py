"""How many updates are due: the train ratio."""

from __future__ import annotations


class TrainRatio:
    """Updates due per policy step: train_ratio / trained rows per update, with the fraction carried over.

    The first call returns 1 and starts the count, as in the authors' code; steps before it ask for nothing. During
    the first `early_steps` policy steps the ratio is at most `early_ratio`, which the authors' code does not have.
    """

    def __init__(
        self, train_ratio: float, rows_per_update: int, early_ratio: float | None = None, early_steps: int = 0
    ) -> None:
        self.updates_per_step = train_ratio / rows_per_update
        self.early_steps = early_steps
        self.early_weight = 1.0 if early_ratio is None else min(early_ratio / train_ratio, 1.0)
        self._paid_until: float | None = None  # weighted policy steps for which all updates have been asked for

    def most_updates(self, policy_steps: int) -> float:
        """What so many policy steps ask for at most: as if the count started with the first of them."""
        return 1 + self._weighted(policy_steps) * self.updates_per_step

    @property
    def has_begun(self) -> bool:
        return self._paid_until is not None

    def __call__(self, policy_steps: int) -> int:
        if self._paid_until is None:
            self._paid_until = self._weighted(policy_steps)
            return 1
        updates = self._due(self._paid_until, policy_steps)
        self._paid_until += updates / self.updates_per_step
        return updates

    def steps_until_due(self, policy_steps: int, stride: int) -> int:
        """After how many more times `stride` policy steps a call will return the next updates; it must have begun."""
        assert self._paid_until is not None
        steps = 1
        while not self._due(self._paid_until, policy_steps + steps * stride):
            steps += 1
        return steps

    def _due(self, paid_until: float, policy_steps: int) -> int:
        return int((self._weighted(policy_steps) - paid_until) * self.updates_per_step)

    def _weighted(self, policy_steps: int) -> float:
        """Policy steps, where an early one counts as early_ratio / train_ratio of a later one."""
        early = min(policy_steps, self.early_steps)
        return policy_steps - early + early * self.early_weight

    def state_dict(self) -> dict[str, float | None]:
        return {"paid_until": self._paid_until}

    def load_state_dict(self, state: dict[str, float | None]) -> None:
        self._paid_until = state["paid_until"]

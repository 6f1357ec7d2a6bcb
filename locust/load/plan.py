"""What a plan lets through: the arithmetic of the service once more, written from its description. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass

MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Plan:
    """A plan's rate, and how much of its burst is there when a run begins."""

    name: str
    requests_per_minute: int
    burst: int
    left: int


@dataclass(frozen=True)
class Prediction:
    """What becomes of the requests that were offered."""

    offered: int
    admitted: int

    @property
    def over_plan(self) -> int:
        """Answered 429."""
        return self.offered - self.admitted

    @property
    def tolerance(self) -> int:
        """How far off the real number may be, because requests do not arrive as evenly as is assumed here."""
        return max(10, self.offered // 50)


def predict(plan: Plan, offered: Mapping[int, int]) -> Prediction:
    """GCRA over requests that arrive evenly within each second."""
    interval_us = -(-MINUTE_US // plan.requests_per_minute)
    tolerance_us = interval_us * plan.burst
    if not offered:
        return Prediction(0, 0)
    # Whatever was used up of the burst before, puts the theoretical arrival time so far ahead.
    tat_us = min(offered) * 1_000_000 + (plan.burst - plan.left) * interval_us
    admitted = 0
    for second in sorted(offered):
        requests = offered[second]
        for place in range(requests):
            now_us = second * 1_000_000 + place * 1_000_000 // requests
            next_us = max(tat_us, now_us) + interval_us
            if next_us <= now_us + tolerance_us:
                tat_us = next_us
                admitted += 1
    return Prediction(sum(offered.values()), admitted)


def admitted_at_most(plan: Plan, seconds: float) -> int:
    """More than this cannot be let through in this time, however the requests arrive."""
    return plan.left + int(plan.requests_per_minute * seconds / 60) + 1

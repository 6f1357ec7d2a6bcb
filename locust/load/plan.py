"""Predicts how many requests a plan admits. No I/O.

Written from the documentation, independently of the code of the service.
"""

from collections.abc import Mapping
from dataclasses import dataclass

MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Plan:
    """The rate limit of a plan. `left` is how much of the burst is available when the run starts."""

    name: str
    requests_per_minute: int
    burst: int
    left: int


@dataclass(frozen=True)
class Prediction:
    """The number of requests offered, and how many of them the plan is expected to admit."""

    offered: int
    admitted: int

    @property
    def over_plan(self) -> int:
        """Requests that are expected to be answered 429."""
        return self.offered - self.admitted

    @property
    def tolerance(self) -> int:
        """The allowed deviation: real requests do not arrive as evenly as `predict` assumes."""
        return max(10, self.offered // 50)


def predict(plan: Plan, offered: Mapping[int, int]) -> Prediction:
    """Applies GCRA to `offered`, the number of requests by Unix second, spread evenly over each second."""
    interval_us = -(-MINUTE_US // plan.requests_per_minute)
    tolerance_us = interval_us * plan.burst
    if not offered:
        return Prediction(0, 0)
    # The burst used before the run moves the theoretical arrival time (TAT) into the future.
    tat_us = min(offered) * 1_000_000 + (plan.burst - plan.left) * interval_us
    admitted = 0
    for second in sorted(offered):
        requests = offered[second]
        for index in range(requests):
            now_us = second * 1_000_000 + index * 1_000_000 // requests
            next_us = max(tat_us, now_us) + interval_us
            if next_us <= now_us + tolerance_us:
                tat_us = next_us
                admitted += 1
    return Prediction(sum(offered.values()), admitted)


def admitted_at_most(plan: Plan, seconds: float) -> int:
    """The largest number of requests that the plan can admit in this time, however they arrive."""
    return plan.left + int(plan.requests_per_minute * seconds / 60) + 1

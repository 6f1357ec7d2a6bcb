"""The verdict. No I/O.

A check has passed, has failed, or was not made, which is said and never counted as passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from load.books import Settled, differences
from load.figures import growth_mb_per_hour, percentile
from load.ledger import Account, Ledger
from load.plan import Plan, Prediction, admitted_at_most, predict
from load.profiles import Thresholds


@dataclass(frozen=True)
class Check:
    """One question, and what was seen. `passed` is None when it was not made."""

    name: str
    passed: bool | None
    says: str


def errors(total: Account, thresholds: Thresholds) -> Check:
    """Batches that were neither accepted nor over the plan."""
    if total.batches_sent == 0:
        return Check("errors", False, "nothing was sent")
    share = 100 * total.batches_failed / total.batches_sent
    says = f"{total.batches_failed} of {total.batches_sent} batches failed: {share:.3f} % (< {thresholds.errors_percent} %)"
    for reason, times in total.reasons.most_common(3):
        says += f"; {times} x {reason}"
    unanswered = total.batches_failed - sum(total.reasons.values())
    if unanswered:
        says += f"; {unanswered} x without an answer when the load ended"
    return Check("errors", share < thresholds.errors_percent, says)


def latency(total: Account, thresholds: Thresholds, is_judged: bool) -> Check:
    """The 95th percentile of accepted batches."""
    p95_us = percentile(total.latency_us, 0.95)
    if p95_us is None:
        return Check("p95", False, "nothing was accepted")
    says = f"p95 of accepted batches is {p95_us / 1000:.1f} ms (< {thresholds.p95_ms:g} ms)"
    if not is_judged:
        return Check("p95", None, f"{says}; not judged, because of --no-latency")
    return Check("p95", p95_us / 1000 < thresholds.p95_ms, says)


def memory(samples: Mapping[str, Sequence[tuple[float, float]]], thresholds: Thresholds) -> Check | None:
    """Growth of every program that was watched; None when the profile does not ask for it."""
    limit = thresholds.memory_mb_per_hour
    if limit is None:
        return None
    grown = {name: growth_mb_per_hour(values) for name, values in samples.items()}
    known = {name: growth for name, growth in grown.items() if growth is not None}
    if not known or len(known) < len(grown):
        return Check("memory", False, "memory could not be watched long enough; name the programs with --metrics")
    says = ", ".join(f"{name} {growth:+.1f} MB/h" for name, growth in known.items())
    return Check("memory", all(growth < limit for growth in known.values()), f"{says} (< {limit:g} MB/h)")


def plan_of(number: int, plan: Plan, account: Account) -> tuple[Prediction, list[str]]:
    """What a project's plan predicts of the requests offered to it, and what is wrong with what was seen."""
    predicted = predict(plan, account.offered)
    wrong = []
    seconds = max(account.offered, default=0) - min(account.offered, default=0) + 2
    at_most = admitted_at_most(plan, seconds)
    if account.batches_accepted > at_most:
        wrong.append(f"project {number}: {account.batches_accepted} accepted, {plan.name} allows {at_most}")
    if abs(account.batches_over_plan - predicted.over_plan) > predicted.tolerance:
        seen = f"{account.batches_over_plan} answered 429"
        wrong.append(f"project {number}: {seen}, {plan.name} predicts {predicted.over_plan} +/- {predicted.tolerance}")
    return predicted, wrong


def plans(limits: Sequence[Plan], ledger: Ledger) -> Check:
    """429s beside what the plans predict."""
    predicted, wrong = 0, []
    for number, plan in enumerate(limits):
        prediction, complaints = plan_of(number + 1, plan, ledger.of(number))
        predicted += prediction.over_plan
        wrong += complaints
    says = f"{ledger.total().batches_over_plan} batches were answered 429, the plans predict {predicted}"
    return Check("plans", not wrong, "; ".join([says, *wrong]))


def conservation(ledger: Ledger, settled: Settled) -> Check:
    """What was accepted is stored, and once, by the ledger of those who sent it."""
    wrong = [
        f"project {number + 1}: {complaint}"
        for number, usage in enumerate(settled.usage)
        for complaint in differences(ledger.of(number), usage)
    ]
    total = ledger.total()
    says = (
        f"{total.events_accepted} events accepted = {total.events_accepted - total.duplicates} new + "
        f"{total.duplicates} sent again on purpose; metered: {sum(usage.stored for usage in settled.usage)} stored, "
        f"{sum(usage.duplicates for usage in settled.usage)} duplicates, {sum(usage.dead for usage in settled.usage)} dead"
    )
    if total.events_unknown:
        says += f"; {total.events_unknown} more were sent without an answer, and may be stored"
    return Check("conservation", not wrong, "; ".join([says, *wrong]))


def verdict(checks: Sequence[Check]) -> bool:
    """Whether nothing has failed."""
    return all(check.passed is not False for check in checks)

"""The checks that decide whether a run has passed. No I/O.

A check that was not made is reported as such and never counts as passed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from load.conservation import MeteredUsage, differences
from load.ledger import Ledger, Totals
from load.plan import Plan, Prediction, admitted_at_most, predict
from load.profiles import Thresholds
from load.stats import growth_mb_per_hour, percentile


@dataclass(frozen=True)
class Check:
    """The outcome of one check, as `result.json` stores it. `passed` is None when the check was not made."""

    name: str
    passed: bool | None
    says: str


def errors(total: Totals, thresholds: Thresholds) -> Check:
    """The share of batches that were neither accepted nor refused by a plan."""
    if total.batches_sent == 0:
        return Check("errors", False, "no batch was sent")
    share = 100 * total.batches_failed / total.batches_sent
    text = f"{total.batches_failed} of {total.batches_sent} batches failed: {share:.3f} % (< {thresholds.errors_percent} %)"
    for reason, times in total.reasons.most_common(3):
        text += f"; {times} x {reason}"
    unanswered = total.batches_failed - sum(total.reasons.values())
    if unanswered:
        text += f"; {unanswered} x no answer before the load ended"
    return Check("errors", share < thresholds.errors_percent, text)


def latency(total: Totals, thresholds: Thresholds, is_judged: bool) -> Check:
    """The 95th percentile of the latency of accepted batches."""
    p95_us = percentile(total.latency_us, 0.95)
    if p95_us is None:
        return Check("p95", False, "no batch was accepted")
    text = f"p95 of accepted batches is {p95_us / 1000:.1f} ms (< {thresholds.p95_ms:g} ms)"
    if not is_judged:
        return Check("p95", None, f"{text}; not judged because of --no-latency")
    return Check("p95", p95_us / 1000 < thresholds.p95_ms, text)


def memory(samples: Mapping[str, Sequence[tuple[float, float]]], thresholds: Thresholds) -> Check | None:
    """The memory growth of every monitored program; None when the profile has no limit for it."""
    limit = thresholds.memory_mb_per_hour
    if limit is None:
        return None
    growth = {name: growth_mb_per_hour(values) for name, values in samples.items()}
    known = {name: value for name, value in growth.items() if value is not None}
    if not known or len(known) < len(growth):
        return Check("memory", False, "too few memory samples; name the programs with --metrics")
    text = ", ".join(f"{name} {value:+.1f} MB/h" for name, value in known.items())
    return Check("memory", all(value < limit for value in known.values()), f"{text} (< {limit:g} MB/h)")


def check_plan(number: int, plan: Plan, sent: Totals) -> tuple[Prediction, list[str]]:
    """What a plan predicts for the requests of project `number`, and how the answers differ from it."""
    predicted = predict(plan, sent.offered)
    problems = []
    seconds = max(sent.offered, default=0) - min(sent.offered, default=0) + 2
    at_most = admitted_at_most(plan, seconds)
    if sent.batches_accepted > at_most:
        problems.append(f"project {number}: {sent.batches_accepted} accepted, {plan.name} allows {at_most}")
    if abs(sent.batches_over_plan - predicted.over_plan) > predicted.tolerance:
        actual = f"{sent.batches_over_plan} answered 429"
        problems.append(f"project {number}: {actual}, {plan.name} predicts {predicted.over_plan} +/- {predicted.tolerance}")
    return predicted, problems


def plans(limits: Sequence[Plan], ledger: Ledger) -> Check:
    """The number of 429 answers, compared with what the plans predict."""
    predicted, problems = 0, []
    for index, plan in enumerate(limits):
        prediction, differing = check_plan(index + 1, plan, ledger.of(index))
        predicted += prediction.over_plan
        problems += differing
    text = f"{ledger.total().batches_over_plan} batches were answered 429, the plans predict {predicted}"
    return Check("plans", not problems, "; ".join([text, *problems]))


def conservation(ledger: Ledger, metered: MeteredUsage) -> Check:
    """Whether every accepted event was stored and metered exactly once."""
    problems = [
        f"project {index + 1}: {difference}"
        for index, usage in enumerate(metered.usage)
        for difference in differences(ledger.of(index), usage)
    ]
    total = ledger.total()
    text = (
        f"{total.events_accepted} events accepted = {total.events_accepted - total.duplicates} new + "
        f"{total.duplicates} sent again on purpose; metered: {sum(usage.stored for usage in metered.usage)} stored, "
        f"{sum(usage.duplicates for usage in metered.usage)} duplicates, {sum(usage.dead for usage in metered.usage)} dead"
    )
    if total.events_unknown:
        text += f"; {total.events_unknown} more got no conclusive answer and may have been stored"
    return Check("conservation", not problems, "; ".join([text, *problems]))


def none_failed(checks: Sequence[Check]) -> bool:
    """Whether no check failed. A check that was not made does not fail the run."""
    return all(check.passed is not False for check in checks)

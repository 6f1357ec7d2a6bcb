"""Compares the events that the service metered with the events that it accepted, project by project."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from load.ledger import Ledger, Totals
from load.service import ProjectClient, Usage, UsagePeriod

# How long to wait after the last change for unanswered batches, which may still be stored.
UNANSWERED_WAIT_S = 3.0
POLL_INTERVAL_S = 0.25


@dataclass(frozen=True)
class MeteredUsage:
    """The usage of each project during the run, and the time from the end of the load to its last change."""

    usage: tuple[Usage, ...]
    drained_s: float


def read_usage(projects: Sequence[ProjectClient], period: UsagePeriod) -> list[Usage]:
    """The usage of each project so far."""
    return [project.usage(period) for project in projects]


def wait_until_metered(
    projects: Sequence[ProjectClient], period: UsagePeriod, before: Sequence[Usage], ledger: Ledger, patience_s: float
) -> MeteredUsage:
    """Waits until every accepted event is metered, or until usage has not changed for `patience_s`."""
    started = changed = time.monotonic()
    usage: list[Usage] = []
    while True:
        now = [after.since(earlier) for after, earlier in zip(read_usage(projects, period), before, strict=True)]
        if now != usage:
            usage, changed = now, time.monotonic()
        totals = [ledger.of(index) for index in range(len(projects))]
        is_complete = all(got.total >= sent.events_accepted for got, sent in zip(usage, totals, strict=True))
        patience = patience_s
        if is_complete:
            patience = UNANSWERED_WAIT_S if any(sent.events_unknown for sent in totals) else 0.0
        if time.monotonic() - changed >= patience:
            return MeteredUsage(tuple(usage), changed - started)
        time.sleep(POLL_INTERVAL_S)


def differences(sent: Totals, usage: Usage) -> list[str]:
    """How the usage of a project differs from its ledger. An unanswered batch may be stored or not."""
    unknown = sent.events_unknown
    new = sent.events_accepted - sent.duplicates
    found = (
        _difference("accounted for", usage.total, sent.events_accepted, unknown),
        _difference("stored", usage.stored + usage.dead, new, unknown),
        _difference("duplicates", usage.duplicates, sent.duplicates, unknown),
    )
    return [difference for difference in found if difference]


def _difference(name: str, actual: int, expected: int, tolerance: int) -> str | None:
    if actual < expected:
        return f"{expected - actual} of {expected} missing ({name}: {actual})"
    if actual > expected + tolerance:
        return f"{actual - expected - tolerance} too many ({name}: {actual}, at most {expected + tolerance} expected)"
    return None

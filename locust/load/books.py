"""Conservation: what the service has, beside what it said it had accepted."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from load.ledger import Account, Ledger
from load.service import Period, Project, Usage

# What was sent without an answer may be under way; it gets so long after the last change.
STRAGGLERS_S = 3.0
BETWEEN_LOOKS_S = 0.25


@dataclass(frozen=True)
class Settled:
    """What the service has of this run, for each project, and how long it took after the last request."""

    usage: tuple[Usage, ...]
    drained_s: float


def read(projects: Sequence[Project], period: Period) -> list[Usage]:
    """What is metered now."""
    return [project.usage(period) for project in projects]


def wait_until_settled(
    projects: Sequence[Project], period: Period, before: Sequence[Usage], ledger: Ledger, patience_s: float
) -> Settled:
    """Waits until the service has everything it accepted, or until nothing has arrived for so long that nothing will."""
    begun = changed = time.monotonic()
    usage: list[Usage] = []
    while True:
        now = [after.since(earlier) for after, earlier in zip(read(projects, period), before, strict=True)]
        if now != usage:
            usage, changed = now, time.monotonic()
        accounts = [ledger.of(number) for number in range(len(projects))]
        is_complete = all(got.total >= account.events_accepted for got, account in zip(usage, accounts, strict=True))
        patience = patience_s
        if is_complete:
            patience = STRAGGLERS_S if any(account.events_unknown for account in accounts) else 0.0
        if time.monotonic() - changed >= patience:
            return Settled(tuple(usage), changed - begun)
        time.sleep(BETWEEN_LOOKS_S)


def differences(account: Account, usage: Usage) -> list[str]:
    """What of a project is not as its ledger says. Batches without an answer leave room by as much as was in them."""
    unknown = account.events_unknown
    new = account.events_accepted - account.duplicates
    return [
        complaint
        for complaint in (
            _outside("accounted for", usage.total, account.events_accepted, unknown),
            _outside("stored", usage.stored + usage.dead, new, unknown),
            _outside("duplicates", usage.duplicates, account.duplicates, unknown),
        )
        if complaint
    ]


def _outside(what: str, found: int, expected: int, room: int) -> str | None:
    if found < expected:
        return f"{expected - found} of {expected} missing ({what}: {found})"
    if found > expected + room:
        return f"{found - expected - room} too many ({what}: {found}, at most {expected + room} expected)"
    return None

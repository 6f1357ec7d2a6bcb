"""What was sent and what was answered, written down by those who sent it. No I/O.

A ledger is nothing but sums, so ledgers of several processes are merged by adding them up. Projects are told apart by the place
of their key in the list of keys, which is the only thing of a key that is ever written down.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

ACCEPTED = 202
OVER_PLAN = 429


@dataclass
class Account:
    """One project's part."""

    batches_sent: int = 0
    events_sent: int = 0
    batches_accepted: int = 0
    events_accepted: int = 0
    # Of the accepted, those that had been accepted before.
    duplicates: int = 0
    batches_over_plan: int = 0
    events_over_plan: int = 0
    # Answered 4xx: nothing of them may be stored.
    batches_refused: int = 0
    events_refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    # Seconds since 1970: requests that the plan decided about, by when they were sent, and events accepted.
    offered: Counter[int] = field(default_factory=Counter)
    accepted_by_second: Counter[int] = field(default_factory=Counter)
    # Rounded microseconds of accepted requests.
    latency_us: Counter[int] = field(default_factory=Counter)

    @property
    def events_unknown(self) -> int:
        """Events that may or may not be stored: there was no answer, or one that leaves it open."""
        return self.events_sent - self.events_accepted - self.events_over_plan - self.events_refused

    @property
    def batches_failed(self) -> int:
        """Batches that were neither accepted nor over the plan."""
        return self.batches_sent - self.batches_accepted - self.batches_over_plan

    def add(self, other: Self) -> None:
        """Takes up what another process has written down."""
        for entry in dataclasses.fields(self):
            mine, theirs = getattr(self, entry.name), getattr(other, entry.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, entry.name, mine + theirs)

    def to_json(self) -> dict[str, object]:
        """As what JSON and msgpack know."""
        plain = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        return {name: _text_keys(value) if isinstance(value, Counter) else value for name, value in plain.items()}

    @classmethod
    def from_json(cls, plain: dict[str, object]) -> Self:
        """The opposite."""
        account = cls(**plain)
        account.reasons = Counter(plain["reasons"])
        for name in ("offered", "accepted_by_second", "latency_us"):
            setattr(account, name, Counter({int(key): count for key, count in plain[name].items()}))
        return account


def _text_keys(counts: Counter[int] | Counter[str]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}


class Ledger:
    """All projects."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}

    def of(self, project: int) -> Account:
        """One project's part."""
        return self.accounts.setdefault(project, Account())

    def sent(self, project: int, events: int) -> None:
        """A batch is on its way. Written before it is: whoever is killed while waiting has sent it."""
        account = self.of(project)
        account.batches_sent += 1
        account.events_sent += events

    def accepted(self, project: int, events: int, duplicates: int, sent_s: float, took_ms: float) -> None:
        """It was answered 202."""
        account = self.of(project)
        account.batches_accepted += 1
        account.events_accepted += events
        account.duplicates += duplicates
        account.offered[int(sent_s)] += 1
        account.accepted_by_second[int(sent_s + took_ms / 1000)] += events
        account.latency_us[round_us(took_ms * 1000)] += 1

    def over_plan(self, project: int, events: int, sent_s: float) -> None:
        """It was answered 429: the plan at work, and no failure."""
        account = self.of(project)
        account.batches_over_plan += 1
        account.events_over_plan += events
        account.offered[int(sent_s)] += 1

    def failed(self, project: int, events: int, status: int, reason: str) -> None:
        """It was answered otherwise, or not at all, which is status 0."""
        account = self.of(project)
        account.reasons[reason] += 1
        if 400 <= status < 500:
            account.batches_refused += 1
            account.events_refused += events

    def total(self) -> Account:
        """All projects as one."""
        total = Account()
        for account in self.accounts.values():
            total.add(account)
        return total

    def add(self, other: Self) -> None:
        """Takes up what another process has written down."""
        for project, account in other.accounts.items():
            self.of(project).add(account)

    def take(self) -> dict[str, object]:
        """Everything so far, as JSON, to be added to another; this one begins anew."""
        taken = self.to_json()
        self.accounts = {}
        return taken

    def to_json(self) -> dict[str, object]:
        """As what JSON and msgpack know."""
        return {str(project): account.to_json() for project, account in self.accounts.items()}

    @classmethod
    def from_json(cls, plain: dict[str, dict[str, object]]) -> Self:
        """The opposite."""
        ledger = cls()
        ledger.accounts = {int(project): Account.from_json(account) for project, account in plain.items()}
        return ledger


def round_us(microseconds: float) -> int:
    """Three digits: enough for every percentile, and few enough different ones to be counted."""
    whole = max(1, round(microseconds))
    step = 10 ** max(0, len(str(whole)) - 3)
    return round(whole / step) * step

"""The load generator's own record of the batches that it sent and the answers that it received. No I/O.

A ledger contains only sums, so the ledgers of several processes are merged by addition. A project is
identified by the index of its key in the list of keys. The keys themselves must never be written to a file.
"""

import dataclasses
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

ACCEPTED = 202
OVER_PLAN = 429


@dataclass
class Totals:
    """The sums of one project, or of all projects."""

    batches_sent: int = 0
    events_sent: int = 0
    batches_accepted: int = 0
    events_accepted: int = 0
    # The accepted events that had been accepted before.
    duplicates: int = 0
    batches_over_plan: int = 0
    events_over_plan: int = 0
    # Answered 4xx except 429: none of these events may be stored.
    batches_refused: int = 0
    events_refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    # By Unix second of sending: requests that the plan accepted or refused.
    offered: Counter[int] = field(default_factory=Counter)
    # By Unix second of the answer: events.
    accepted_by_second: Counter[int] = field(default_factory=Counter)
    # Number of accepted requests by rounded latency in microseconds.
    latency_us: Counter[int] = field(default_factory=Counter)

    @property
    def events_unknown(self) -> int:
        """Events that may or may not be stored: there was no answer, or a 5xx."""
        return self.events_sent - self.events_accepted - self.events_over_plan - self.events_refused

    @property
    def batches_failed(self) -> int:
        """Batches that were neither accepted nor refused by the plan."""
        return self.batches_sent - self.batches_accepted - self.batches_over_plan

    def add(self, other: Self) -> None:
        """Adds the sums of another process or project."""
        for item in dataclasses.fields(self):
            mine, theirs = getattr(self, item.name), getattr(other, item.name)
            if isinstance(mine, Counter):
                mine.update(theirs)
            else:
                setattr(self, item.name, mine + theirs)

    def to_json(self) -> dict[str, object]:
        """A dictionary for JSON and msgpack, whose keys must be text."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {name: _text_keys(value) if isinstance(value, Counter) else value for name, value in plain.items()}

    @classmethod
    def from_json(cls, plain: dict[str, object]) -> Self:
        """The inverse of `to_json`."""
        totals = cls(**plain)
        totals.reasons = Counter(plain["reasons"])
        for name in ("offered", "accepted_by_second", "latency_us"):
            setattr(totals, name, Counter({int(key): count for key, count in plain[name].items()}))
        return totals


def _text_keys(counts: Counter[int] | Counter[str]) -> dict[str, int]:
    return {str(key): count for key, count in counts.items()}


class Ledger:
    """The totals of each project, by the index of its key."""

    def __init__(self) -> None:
        self._projects: dict[int, Totals] = {}

    def of(self, project: int) -> Totals:
        """The totals of one project."""
        return self._projects.setdefault(project, Totals())

    def sent(self, project: int, events: int) -> None:
        """Records a batch. Call it before the request: a user may be stopped during the request."""
        totals = self.of(project)
        totals.batches_sent += 1
        totals.events_sent += events

    def accepted(self, project: int, events: int, duplicates: int, sent_s: float, took_ms: float) -> None:
        """Records the answer 202. `sent_s` is Unix time."""
        totals = self.of(project)
        totals.batches_accepted += 1
        totals.events_accepted += events
        totals.duplicates += duplicates
        totals.offered[int(sent_s)] += 1
        totals.accepted_by_second[int(sent_s + took_ms / 1000)] += events
        totals.latency_us[round_us(took_ms * 1000)] += 1

    def over_plan(self, project: int, events: int, sent_s: float) -> None:
        """Records the answer 429, which is expected when a plan is at its limit and is not a failure."""
        totals = self.of(project)
        totals.batches_over_plan += 1
        totals.events_over_plan += events
        totals.offered[int(sent_s)] += 1

    def failed(self, project: int, events: int, status: int, reason: str) -> None:
        """Records any other answer. Status 0 means that there was no answer."""
        totals = self.of(project)
        totals.reasons[reason] += 1
        if 400 <= status < 500:
            totals.batches_refused += 1
            totals.events_refused += events

    def total(self) -> Totals:
        """The sum over all projects."""
        total = Totals()
        for totals in self._projects.values():
            total.add(totals)
        return total

    def add(self, other: Self) -> None:
        """Adds the ledger of another process."""
        for project, totals in other._projects.items():
            self.of(project).add(totals)

    def take(self) -> dict[str, object]:
        """Returns everything recorded so far as JSON and empties this ledger."""
        taken = self.to_json()
        self._projects = {}
        return taken

    def to_json(self) -> dict[str, object]:
        """A dictionary for JSON and msgpack, whose keys must be text."""
        return {str(project): totals.to_json() for project, totals in self._projects.items()}

    @classmethod
    def from_json(cls, plain: dict[str, dict[str, object]]) -> Self:
        """The inverse of `to_json`."""
        ledger = cls()
        ledger._projects = {int(project): Totals.from_json(totals) for project, totals in plain.items()}
        return ledger


def round_us(microseconds: float) -> int:
    """Rounds to three significant digits: exact enough for percentiles, with few distinct values to count."""
    whole = max(1, round(microseconds))
    step = 10 ** max(0, len(str(whole)) - 3)
    return round(whole / step) * step

"""The ledger of the load generator, and the events that it sends."""

import json
import random
import uuid
from itertools import pairwise

from load.events import FUNNEL, Repeater, body, visit
from load.ledger import Ledger, round_us


def test_the_ledgers_of_two_processes_add_up_to_one() -> None:
    together, first, second = Ledger(), Ledger(), Ledger()
    for ledger in (together, first):
        ledger.sent(0, 10)
        ledger.accepted(0, 10, 1, sent_s=100.5, took_ms=2.5)
        ledger.sent(1, 7)
        ledger.over_plan(1, 7, sent_s=101.0)
    for ledger in (together, second):
        ledger.sent(0, 5)
        ledger.failed(0, 5, 503, "503: backlog_full")
        ledger.sent(0, 6)
        ledger.failed(0, 6, 400, "400: invalid_json")
    received = Ledger()
    for part in (first, second):
        # The format in which Locust processes send it.
        received.add(Ledger.from_json(json.loads(json.dumps(part.take()))))
    assert received.to_json() == together.to_json()
    assert first.to_json() == {}, "sums are sent only once"


def test_unanswered_and_5xx_events_are_unknown_and_4xx_events_are_not() -> None:
    ledger = Ledger()
    for project in range(4):
        ledger.sent(project, 10)
    ledger.failed(1, 10, 0, "0: reset")
    ledger.failed(2, 10, 503, "503")
    ledger.failed(3, 10, 401, "401")
    assert [ledger.of(project).events_unknown for project in range(4)] == [10, 10, 10, 0]
    assert ledger.total().batches_failed == 4


def test_latency_is_rounded_to_three_digits() -> None:
    assert [round_us(value) for value in (0.2, 7, 123, 1_234, 98_765, 1_234_567)] == [1, 7, 123, 1_230, 98_800, 1_230_000]


def test_a_visit_starts_at_the_first_step_of_the_funnel_and_follows_it() -> None:
    sent = json.loads(body(visit("visitor-1", 200, random.Random(1))))
    assert len({uuid.UUID(event["id"]) for event in sent["events"]}) == 200, "every id is unique"
    names = [event["name"] for event in sent["events"]]
    assert names[0] == FUNNEL[0]
    steps = [FUNNEL.index(after) - FUNNEL.index(before) for before, after in pairwise(names)]
    assert set(steps) <= {0, 1, -4}
    assert set(names) == set(FUNNEL)


def test_only_accepted_events_are_sent_again_and_they_are_counted() -> None:
    rng = random.Random(1)
    repeater = Repeater(rng, share=0.2)
    first = visit("visitor-1", 10, rng)
    assert repeater.insert_duplicates(first) == 0
    repeater.remember(first)
    second = visit("visitor-1", 100, rng)
    replaced = repeater.insert_duplicates(second)
    assert replaced > 0
    assert replaced == sum(event in first for event in second)

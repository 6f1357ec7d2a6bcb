"""The events of visitors of an online shop. No I/O."""

import random
from collections import deque
from datetime import UTC, datetime

# One event as JSON text.
Event = str

FUNNEL = ("page_view", "product_viewed", "add_to_cart", "checkout", "purchase")
REFERRERS = ("search", "mail", "direct", "partner")
# Probability that a visitor's next event is the next step of the funnel.
NEXT_STEP_PROBABILITY = 0.45
# Share of events that were accepted before, as in real traffic: clients retry after a lost answer.
DUPLICATE_SHARE = 0.006


def visit(subject: str, count: int, rng: random.Random) -> list[Event]:
    """The next `count` events of one visit, in the order of the funnel."""
    step = 0
    events = []
    for _ in range(count):
        events.append(event(FUNNEL[step], subject, rng))
        if rng.random() < NEXT_STEP_PROBABILITY:
            step = (step + 1) % len(FUNNEL)
    return events


def event(name: str, subject: str, rng: random.Random) -> Event:
    """A new event with a random id.

    Formats the JSON by hand, because `json.dumps` would slow the load generator down.
    """
    digits = f"{rng.getrandbits(128):032x}"
    event_id = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
    product = int(rng.random() * 5_000)
    price = int(100 + rng.random() * 20_000) / 100
    referrer = REFERRERS[int(rng.random() * len(REFERRERS))]
    return (
        f'{{"id":"{event_id}","name":"{name}","timestamp":"{datetime.now(UTC).isoformat()}","subject":"{subject}",'
        f'"properties":{{"product":"sku-{product}","price":{price},"currency":"EUR","referrer":"{referrer}"}},'
        f'"context":{{"page":{{"path":"/p/{product}"}},"locale":"de-DE"}}}}'
    )


def body(events: list[Event]) -> str:
    """The request body of a batch."""
    return f'{{"events":[{",".join(events)}]}}'


class Repeater:
    """Replaces some new events with events that were accepted before, and counts them."""

    def __init__(self, rng: random.Random, share: float = DUPLICATE_SHARE) -> None:
        self._rng = rng
        self._share = share
        self._accepted: deque[Event] = deque(maxlen=50)

    def insert_duplicates(self, events: list[Event]) -> int:
        """Replaces a random share of `events` in place and returns how many were replaced."""
        replaced = 0
        for index in range(len(events)):
            if self._accepted and self._rng.random() < self._share:
                events[index] = self._rng.choice(self._accepted)
                replaced += 1
        return replaced

    def remember(self, events: list[Event]) -> None:
        """Keeps accepted events, so that they can be sent again later."""
        self._accepted.extend(events[-10:])

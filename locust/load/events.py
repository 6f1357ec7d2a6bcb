"""What visitors of a shop do, as events. No I/O."""

import random
from collections import deque
from datetime import UTC, datetime

# As JSON.
Event = str

FUNNEL = ("page_view", "product_viewed", "add_to_cart", "checkout", "purchase")
REFERRERS = ("search", "mail", "direct", "partner")
# How many of those who reached a step go on to the next with their next event.
GOES_ON = 0.45
# How many of the events of real traffic arrive again: retries of clients that lost an answer.
DUPLICATES = 0.006


def visit(subject: str, count: int, chance: random.Random) -> list[Event]:
    """So many events of one visit, in the order of the funnel."""
    step = 0
    events = []
    for _ in range(count):
        events.append(event(FUNNEL[step], subject, chance))
        if chance.random() < GOES_ON:
            step = (step + 1) % len(FUNNEL)
    return events


def event(name: str, subject: str, chance: random.Random) -> Event:
    """One event that has never been before. Written by hand, because what sends must not be slower than what receives."""
    digits = f"{chance.getrandbits(128):032x}"
    identity = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
    product = int(chance.random() * 5_000)
    price = int(100 + chance.random() * 20_000) / 100
    referrer = REFERRERS[int(chance.random() * len(REFERRERS))]
    return (
        f'{{"id":"{identity}","name":"{name}","timestamp":"{datetime.now(UTC).isoformat()}","subject":"{subject}",'
        f'"properties":{{"product":"sku-{product}","price":{price},"currency":"EUR","referrer":"{referrer}"}},'
        f'"context":{{"page":{{"path":"/p/{product}"}},"locale":"de-DE"}}}}'
    )


def body(events: list[Event]) -> str:
    """A batch."""
    return f'{{"events":[{",".join(events)}]}}'


class Repeater:
    """Puts events that were accepted before into the place of new ones, and knows how many."""

    def __init__(self, chance: random.Random, share: float = DUPLICATES) -> None:
        self._chance = chance
        self._share = share
        self._accepted: deque[Event] = deque(maxlen=50)

    def spoil(self, events: list[Event]) -> int:
        """Replaces a few; how many, is returned."""
        replaced = 0
        for place in range(len(events)):
            if self._accepted and self._chance.random() < self._share:
                events[place] = self._chance.choice(self._accepted)
                replaced += 1
        return replaced

    def remember(self, events: list[Event]) -> None:
        """These were acknowledged: whoever sends one of them again sends a duplicate."""
        self._accepted.extend(events[-10:])

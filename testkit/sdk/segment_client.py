"""Sends 1,000 mixed calls with the official Segment SDK, and writes down what the SDK was told.

usage: segment_client.py HOST WRITE_KEY TOLD_FILE

TOLD_FILE becomes a JSON array with one object for each call: the id, name, subject, timestamp, properties and the
part of the context that must be found in the database. What is expected is worked out here, from the arguments of
the call, never from what the SDK made of them.
"""

import json
import sys
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from segment.analytics.client import Client

CALLS = 1_000
# The SDK sends whole milliseconds, so that is what it is told.
START = datetime.now(timezone.utc).replace(microsecond=123_000) - timedelta(hours=20)

# Property values of every kind a caller may have, each with what must be in the database.
VALUES = [
    ("plain", "plain"),
    ("", ""),
    ("Zürich, 東京, 🚀, \u202bعربى", "Zürich, 東京, 🚀, \u202bعربى"),
    ('quotes " and \\ and \n lines \t and </script>', 'quotes " and \\ and \n lines \t and </script>'),
    ("a NUL \u0000 within", "a NUL \ufffd within"),
    (0, 0),
    (-17, -17),
    (2**53 + 1, 2**53 + 1),
    (3.25, 3.25),
    (1e-7, 1e-7),
    (True, True),
    (None, None),
    ([1, "two", [3.5, None], {"four": False}], [1, "two", [3.5, None], {"four": False}]),
    ({"deep": {"deeper": {"deepest": ["x"]}}}, {"deep": {"deeper": {"deepest": ["x"]}}}),
    (Decimal("19.99"), 19.99),
    (("a", "tuple"), ["a", "tuple"]),
    (START, START.isoformat()),
]


def fill(index):
    """Properties of one call, and what is expected of them; some calls have none at all."""
    if index % 40 == 0:
        return {}, {}
    told, expected = {"index": index}, {"index": index}
    for place in range(index % 4 + 1):
        value, stored = VALUES[(index + place * 5) % len(VALUES)]
        told[f"p{place}"], expected[f"p{place}"] = value, stored
    return told, expected


def call(client, index):
    """Makes one call and returns what must come of it."""
    kind = ("track", "identify", "page", "screen", "group", "alias")[index % 6]
    told, expected = fill(index)
    # Ids are UUIDs, or what other SDKs of the family make.
    message_id = str(uuid.uuid4()) if index % 5 else f"node-next-{index}-{uuid.uuid4()}"
    common = {"message_id": message_id, "integrations": {"All": index % 2 == 0}}
    if index % 10:
        common["timestamp"] = START + timedelta(seconds=index, milliseconds=index)
    context = {"ip": f"10.0.0.{index % 256}", "campaign": {"name": "été"}} if index % 3 == 0 else {}
    common["context"] = dict(context)
    user, anonymous = (f"user-{index % 50}", None) if index % 7 else (None, f"anonymous-{index % 50}")
    rest = {"type": kind, "integrations": common["integrations"]}
    name = f"${kind}"
    if kind == "alias":
        user = f"user-{index}"
        client.alias(previous_id=f"old-{index}", user_id=user, **common)
        expected = {"previousId": f"old-{index}"}
    else:
        common.update(user_id=user, anonymous_id=anonymous)
        if kind == "track":
            name = ("Order Completed", "Seite geöffnet", "購入")[index % 3]
            client.track(event=name, properties=told, **common)
        elif kind == "identify":
            client.identify(traits=told, **common)
        elif kind == "group":
            rest["groupId"] = f"group-{index % 9}"
            client.group(group_id=rest["groupId"], traits=told, **common)
        else:
            rest["name"], rest["category"] = f"Page {index % 11}", "docs"
            send = client.page if kind == "page" else client.screen
            send(name=rest["name"], category=rest["category"], properties=told, **common)
    timestamp = common.get("timestamp")
    return {
        "message_id": message_id,
        "name": name,
        "subject": user or anonymous,
        "timestamp": timestamp and timestamp.isoformat(),
        "properties": expected,
        "context": {**context, "library": {"name": "analytics-python", "version": "2.4.0"}, "segment": rest},
    }


def main(host, write_key, told_file):
    errors = []
    client = Client(write_key, host=host, on_error=lambda error, items: errors.append(f"{len(items)} lost: {error}"))
    told = [call(client, index) for index in range(CALLS)]
    client.flush()
    client.shutdown()
    with open(told_file, "w", encoding="utf-8") as file:
        json.dump(told, file)
    if errors:
        sys.exit(f"the SDK gave up on events: {errors}")


if __name__ == "__main__":
    main(*sys.argv[1:])

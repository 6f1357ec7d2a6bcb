"""Makes 1,000 different calls of the official Segment SDK and writes the events that the database must contain.

usage: segment_client.py HOST WRITE_KEY EXPECTED_FILE

EXPECTED_FILE becomes a JSON array with one object for each call: id, name, subject, timestamp, properties and the
expected part of the context. The expected values are derived from the arguments of the call, never from the
request that the SDK sends.
"""

import json
import sys
import uuid
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from segment.analytics.client import Client

CALLS = 1_000
# In whole milliseconds, because the SDK sends no smaller units.
START = datetime.now(timezone.utc).replace(microsecond=123_000) - timedelta(hours=20)

# Property values of every supported kind, each with the value that the database must contain.
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


def make_properties(index):
    """The properties of one call, and the expected stored properties. Some calls have no properties."""
    if index % 40 == 0:
        return {}, {}
    properties, expected = {"index": index}, {"index": index}
    for offset in range(index % 4 + 1):
        value, stored = VALUES[(index + offset * 5) % len(VALUES)]
        properties[f"p{offset}"], expected[f"p{offset}"] = value, stored
    return properties, expected


def call(client, index):
    """Makes one call and returns the event that must be stored."""
    kind = ("track", "identify", "page", "screen", "group", "alias")[index % 6]
    properties, expected = make_properties(index)
    # Most ids are UUIDs; the others have the format of other Segment SDKs.
    message_id = str(uuid.uuid4()) if index % 5 else f"node-next-{index}-{uuid.uuid4()}"
    common = {"message_id": message_id, "integrations": {"All": index % 2 == 0}}
    if index % 10:
        common["timestamp"] = START + timedelta(seconds=index, milliseconds=index)
    context = {"ip": f"10.0.0.{index % 256}", "campaign": {"name": "été"}} if index % 3 == 0 else {}
    common["context"] = dict(context)
    user, anonymous = (f"user-{index % 50}", None) if index % 7 else (None, f"anonymous-{index % 50}")
    # Integrations that choose none are not stored.
    segment = {"type": kind} if index % 2 == 0 else {"type": kind, "integrations": common["integrations"]}
    name = f"${kind}"
    if kind == "alias":
        user = f"user-{index}"
        client.alias(previous_id=f"old-{index}", user_id=user, **common)
        expected = {"previousId": f"old-{index}"}
    else:
        common.update(user_id=user, anonymous_id=anonymous)
        if kind == "track":
            name = ("Order Completed", "Seite geöffnet", "購入")[index % 3]
            client.track(event=name, properties=properties, **common)
        elif kind == "identify":
            client.identify(traits=properties, **common)
        elif kind == "group":
            segment["groupId"] = f"group-{index % 9}"
            client.group(group_id=segment["groupId"], traits=properties, **common)
        else:
            titles = {"name": f"Page {index % 11}", "category": "docs"}
            send = client.page if kind == "page" else client.screen
            send(**titles, properties=properties, **common)
            expected = {**titles, **expected}
    timestamp = common.get("timestamp")
    return {
        "message_id": message_id,
        "name": name,
        "subject": user or anonymous,
        "timestamp": timestamp and timestamp.isoformat(),
        "properties": expected,
        "context": {**context, "library": {"name": "analytics-python", "version": "2.4.0"}, "segment": segment},
    }


def main(host, write_key, expected_file):
    errors = []
    client = Client(write_key, host=host, on_error=lambda error, items: errors.append(f"{len(items)} events: {error}"))
    expected = [call(client, index) for index in range(CALLS)]
    client.flush()
    client.shutdown()
    with open(expected_file, "w", encoding="utf-8") as file:
        json.dump(expected, file)
    if errors:
        sys.exit(f"error: the SDK did not deliver events: {errors}")


if __name__ == "__main__":
    main(*sys.argv[1:])

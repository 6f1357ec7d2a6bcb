"""Makes calls of PostHog's SDK for Python, and writes what the store must contain of each.

usage: posthog_calls.py SDK HOST KEY EXPECTED_FILE

SDK is posthog (gzip), posthog-uncompressed, posthog-v1 (the second protocol, with deflate) or posthog-v1-gzip. See
call_list.py for EXPECTED_FILE.
"""

import sys
import uuid
from datetime import datetime, timedelta, timezone

from call_list import CallList
from posthog import Posthog

AT = datetime(2026, 11, 20, 10, 0, 0, 123_000, tzinfo=timezone.utc)
MICROS = 1_795_168_800_123_000
VALUES = {"price": 19.99, "tags": ["a", {"b": None}], "city": "Zürich 東京 🚀", "paid": True, "none": []}


def client_of(sdk, host, key, on_error):
    options = {"host": host, "on_error": on_error, "flush_at": 8, "flush_interval": 0.1, "max_retries": 10}
    if sdk.startswith("posthog-v1"):
        compression = "gzip" if sdk.endswith("gzip") else "deflate"
        return Posthog(key, capture_mode="v1", capture_compression=compression, **options)
    return Posthog(key, gzip=sdk == "posthog", **options)


def main(sdk, host, key, expected_file):
    calls = CallList(sdk, "posthog")
    client = client_of(sdk, host, key, lambda error, batch: calls.errors.append(f"{len(batch)} calls: {error}"))
    library = {"library": {"name": "posthog-python", "version": "7.91.1"}}
    for index in range(40):
        event_id = uuid.uuid4()
        moment, micros = AT + timedelta(seconds=index), MICROS + index * 1_000_000
        properties = {"index": index, **VALUES}
        case = calls.row(
            name=f"Order {index % 3}",
            subject=f"user-{index % 5}",
            timestamp=micros,
            event_id=event_id.hex,
            properties_have=properties,
            context_has=library,
        )
        client.capture(
            f"Order {index % 3}",
            distinct_id=f"user-{index % 5}",
            properties={**properties, **case},
            timestamp=moment,
            uuid=str(event_id),
        )
    case = calls.row(name="$identify", subject="user-1", properties_have={"plan": "pro"})
    client.set(distinct_id="user-1", properties={"plan": "pro", **case})
    case = calls.row(name="$page", subject="user-1", properties_have={"name": "Docs", "title": "Docs"})
    client.capture("$pageview", distinct_id="user-1", properties={"title": "Docs", **case})
    case = calls.row(name="$screen", subject="user-1", properties_have={"name": "Home", "$screen_name": "Home"})
    client.capture("$screen", distinct_id="user-1", properties={"$screen_name": "Home", **case})
    case = calls.row(name="$group", properties_have={"seats": 3})
    client.group_identify("company", "c1", {"seats": 3, **case})
    case = calls.row(name="e", subject_begins="x" * 100, rest={"distinct_id": "x" * 300})
    client.capture("e", distinct_id="x" * 300, properties=case)
    case = calls.row(name="n" * 199 + "…", rest={"event": "n" * 250})
    client.capture("n" * 250, distinct_id="u", properties=case)
    client.shutdown()
    calls.write(expected_file)


if __name__ == "__main__":
    main(*sys.argv[1:])

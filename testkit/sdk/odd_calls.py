"""Makes calls of an SDK for Python, ordinary and odd ones, and writes what the store must contain of each.

usage: odd_calls.py SDK HOST WRITE_KEY EXPECTED_FILE

SDK is segment, analytics (Segment's former package), rudder, rudder-uncompressed, or rudder-large, which makes calls
for bodies over 4 MB. EXPECTED_FILE becomes a JSON array with one object for each call: `case`, which the context of
the call has, too, and either `row`, with the expected columns, or `dead`, the code of the dead letter. The program
fails when the SDK reports an error.
"""

import json
import sys
import zlib
from datetime import datetime, timedelta, timezone
from decimal import Decimal

AT = datetime(2026, 11, 20, 10, 0, 0, 123_000, tzinfo=timezone.utc)
MICROS = 1_795_168_800_123_000
CUT, REPAIRED = "cut \ud83d", "cut \ufffd"
NAN, INFINITY = float("nan"), float("inf")
LONG = "x" * 300
LARGE = "y" * 42_000


def client_of(sdk, host, key, on_error):
    """A client that sends small batches, so that the faults of the network meet different ones."""
    options = {"host": host, "on_error": on_error, "upload_size": 8}
    if sdk == "segment":
        from segment.analytics.client import Client

        return Client(key, gzip=True, **options)
    if sdk == "analytics":
        from analytics.client import Client

        return Client(key, **options)
    from rudderstack.analytics.client import Client

    if sdk == "rudder-large":
        options["upload_size"] = 100
    return Client(key, gzip=sdk == "rudder", **options)


def ordinary_calls():
    """Calls of every kind, with values of every kind."""
    values = {"price": Decimal("19.99"), "tags": ["a", {"b": None}], "city": "Zürich 東京 🚀", "paid": True, "none": []}
    stored = {"price": 19.99, "tags": ["a", {"b": None}], "city": "Zürich 東京 🚀", "paid": True, "none": []}
    for index in range(30):
        properties = {"index": index, **values}
        yield "track", {"event": f"Order {index % 3}", "properties": properties}, {
            "name": f"Order {index % 3}",
            "properties": {"index": index, **stored},
        }
    yield "identify", {"traits": {"plan": "pro", **values}}, {"name": "$identify", "properties": {"plan": "pro", **stored}}
    yield "group", {"group_id": 7, "traits": values}, {"name": "$group", "properties": stored, "rest": {"groupId": 7}}
    yield "page", {"name": "Docs", "properties": values}, {"name": "$page", "properties": {"name": "Docs", **stored}}
    yield "screen", {"name": "Docs"}, {"name": "$screen", "properties": {"name": "Docs"}}
    yield "alias", {"previous_id": "old"}, {"name": "$alias", "properties": {"previousId": "old"}}


def odd_values():
    """Halves of surrogate pairs, and numbers that JSON cannot express."""
    cut, repaired = {"title": CUT, CUT: ["\udead", "🚀"]}, {"title": REPAIRED, REPAIRED: ["\ufffd", "🚀"]}
    yield "track", {"event": CUT, "properties": cut}, {"name": REPAIRED, "properties": repaired}
    yield "identify", {"traits": cut}, {"name": "$identify", "properties": repaired}
    yield "group", {"group_id": CUT, "traits": cut}, {"properties": repaired, "rest": {"groupId": REPAIRED}}
    yield "page", {"user_id": CUT, "properties": cut}, {"subject": REPAIRED, "properties": repaired}
    numbers = {"a": NAN, "b": [INFINITY, -INFINITY, 1.5], "c": {"d": NAN}}
    nulls = {"a": None, "b": [None, None, 1.5], "c": {"d": None}}
    yield "track", {"event": "numbers", "properties": numbers}, {"name": "numbers", "properties": nulls}
    yield "identify", {"traits": numbers}, {"name": "$identify", "properties": nulls}


def odd_ids():
    yield "track", {"event": "e", "user_id": 42}, {"subject": "42"}
    yield "track", {"event": "e", "user_id": 4.5}, {"subject": "4.5"}
    yield "track", {"event": "e", "user_id": NAN}, {"subject": "nan"}
    yield "track", {"event": "e", "user_id": "", "anonymous_id": 7}, {"subject": "7"}
    yield "track", {"event": "e", "user_id": LONG}, {"subject_begins": LONG[:100], "rest": {"userId": LONG}}
    yield "track", {"event": "e", "anonymous_id": LONG}, {"subject": "user", "rest": {"anonymousId": LONG}}
    yield "track", {"event": "e", "message_id": LONG}, {"rest": {"messageId": LONG}}
    yield "track", {"event": LONG}, {"name": LONG[:199] + "…", "rest": {"event": LONG}}


def odd_times():
    """Every time that the SDKs let pass. A time that no column can hold becomes the time of receipt."""
    yield "track", {"event": "e", "timestamp": AT}, {"timestamp": MICROS}
    yield "track", {"event": "e", "timestamp": AT.replace(tzinfo=None)}, {"timestamp": MICROS}
    india = timezone(timedelta(hours=5, minutes=30))
    yield "track", {"event": "e", "timestamp": AT.astimezone(india)}, {"timestamp": MICROS}
    first = datetime(1, 1, 1, tzinfo=timezone.utc)
    yield "track", {"event": "e", "timestamp": first}, {"timestamp": -62_135_596_800_000_000}
    for outside in [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-12))),
    ]:
        yield "track", {"event": "e", "timestamp": outside}, {"timestamp": "received_at"}
        yield "identify", {"timestamp": outside}, {"timestamp": "received_at"}


def hopeless_calls():
    """No event can be made of them."""
    deep = []
    for _ in range(80):
        deep = [deep]
    yield "track", {"event": "", "properties": {"a": 1}}, "invalid_length"
    yield "track", {"event": "e", "properties": {"deep": deep}}, "too_deep"
    yield "track", {"event": "e", "properties": {"digits": 10**400}}, "invalid_number"


def large_calls():
    for index in range(300):
        properties = {"index": index, "text": LARGE}
        yield "track", {"event": "large", "properties": properties}, {"name": "large", "properties": properties}


def main(sdk, host, key, expected_file):
    errors = []
    client = client_of(sdk, host, key, lambda error, items: errors.append(f"{len(items)} calls: {error}"))
    if sdk == "rudder-large":
        sources = [large_calls]
    else:
        # The odd ones are between the ordinary ones, in the same batches.
        sources = [ordinary_calls, odd_values, odd_ids, odd_times, hopeless_calls]
    calls = [call for source in sources for call in source()]
    calls.sort(key=lambda call: zlib.crc32(repr(call).encode(errors="replace")))
    expected = []
    for number, (kind, arguments, row) in enumerate(calls):
        case = f"{sdk} {number}"
        arguments = {"user_id": "user", **arguments, "context": {"case": case}}
        taken, _ = getattr(client, kind)(**arguments)
        if not taken:
            errors.append(f"{case} was not queued")
        outcome = {"dead": row} if isinstance(row, str) else {"row": {"subject": "user", **row}}
        if "subject_begins" in outcome.get("row", {}):
            del outcome["row"]["subject"]
        expected.append({"case": case, **outcome})
    client.flush()
    client.shutdown()
    with open(expected_file, "w", encoding="utf-8") as file:
        json.dump(expected, file)
    if errors:
        sys.exit(f"error: the SDK did not deliver calls: {errors}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Reads meters with OpenMeter's SDK for Python, and writes what it read as one JSON document.

usage: meter_reads.py HOST KEY FILE

`node/meter_reads.js` makes the same calls, and must write the same document.
"""

import json
import sys
from datetime import datetime, timezone

from corehttp.exceptions import HttpResponseError
from openmeter import Client
from openmeter.models import MeterQueryRequest

FROM = datetime(2026, 10, 23, 22, tzinfo=timezone.utc)
TO = datetime(2026, 10, 26, 23, tzinfo=timezone.utc)


def time(moment):
    """A time as JavaScript writes it. The SDK must have made a time of it."""
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z") if moment else None


def meter(found):
    assert found.created_at == found.updated_at and found.created_at.year >= 2026, found
    return {
        "id": found.id,
        "slug": found.slug,
        "name": found.name,
        "aggregation": str(getattr(found.aggregation, "value", found.aggregation)),
        "eventType": found.event_type,
        "valueProperty": found.value_property,
        "groupBy": dict(found.group_by) if found.group_by is not None else None,
    }


def result(found):
    return {
        "from": time(found.from_property),
        "to": time(found.to),
        "windowSize": str(getattr(found.window_size, "value", found.window_size)) if found.window_size else None,
        "data": [
            {
                "value": row.value,
                "windowStart": time(row.window_start),
                "windowEnd": time(row.window_end),
                "subject": row.subject,
                "groupBy": dict(row.group_by),
            }
            for row in found.data
        ],
    }


def refusal(call):
    try:
        call()
    except HttpResponseError as error:
        return error.status_code
    return None


def main(host, key, file):
    with Client(endpoint=host, token=key) as client:
        meters = client.meters
        period = {"from_parameter": FROM, "to": TO}
        listed = [meter(found) for found in meters.list()]
        document = {
            "list": listed,
            "page": [meter(found) for found in meters.list(page=2, page_size=1)],
            "get": meter(meters.get("tokens")),
            "by_id": meter(meters.get(listed[0]["id"])),
            "whole": result(meters.query_json("tokens", **period)),
            "days": result(
                meters.query_json("tokens", **period, window_size="DAY", window_time_zone="Europe/Berlin")
            ),
            "groups": result(meters.query_json("tokens", **period, group_by=["subject", "model"])),
            "subjects": result(meters.query_json("tokens", **period, subject=["acme", "globex"])),
            "filtered": result(meters.query_json("tokens", **period, filter_group_by={"model": "a"})),
            "posted": result(
                meters.query(
                    "tokens",
                    MeterQueryRequest(
                        from_property=FROM,
                        to=TO,
                        window_size="MONTH",
                        subject=["acme"],
                        group_by=["model"],
                        filter_group_by={"model": ["a", "b"]},
                    ),
                )
            ),
            "until_now": result(meters.query_json("calls", to=datetime.now(timezone.utc)))["data"][0]["value"],
            "refused": {
                "minutes": refusal(lambda: meters.query_json("tokens", **period, window_size="MINUTE")),
                "no quarter": refusal(lambda: meters.query_json("tokens", from_parameter=FROM.replace(minute=7), to=TO)),
                "absent": refusal(lambda: meters.get("absent")),
                "no group": refusal(lambda: meters.query_json("tokens", **period, group_by=["color"])),
            },
        }
        csv = meters.query_csv("tokens", **period, group_by=["subject", "model"])
        document["csv"] = csv if isinstance(csv, str) else b"".join(csv).decode()
    with open(file, "w", encoding="utf-8") as out:
        json.dump(document, out)


if __name__ == "__main__":
    main(*sys.argv[1:])

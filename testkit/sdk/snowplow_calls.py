"""Makes calls of Snowplow's tracker for Python, and writes what the store must contain of each.

usage: snowplow_calls.py SDK HOST KEY EXPECTED_FILE

SDK is snowplow (POST, base64, the key as the id of the application), snowplow-get (GET) or snowplow-plain (POST, no base64,
the key as the user name in the address). See call_list.py for EXPECTED_FILE.
"""

import sys
import time

from call_list import CallList
from snowplow_tracker import (
    Emitter,
    PagePing,
    PageView,
    ScreenView,
    SelfDescribing,
    SelfDescribingJson,
    StructuredEvent,
    Subject,
    Tracker,
)

MILLIS = 1_795_168_800_123
VALUES = {"price": 19.99, "tags": ["a", {"b": None}], "city": "Zürich 東京 🚀", "paid": True}
ORDER = "iglu:com.acme/order_completed/jsonschema/1-0-0"
URL = "https://shop.example/docs?a=1&b=2"
PATIENCE_S = 40


def run(calls, sdk, host, key):
    is_plain = sdk == "snowplow-plain"
    failed = []
    emitter = Emitter(
        host.replace("://", f"://{key}:@") if is_plain else host,
        method="get" if sdk == "snowplow-get" else "post",
        batch_size=1 if sdk == "snowplow-get" else 6,
        max_retry_delay_seconds=1,
        on_failure=lambda _, events: failed.extend(events),
    )
    subject = Subject().set_user_id("user-1").set_domain_user_id("device-1").set_ip_address("198.51.100.7")
    tracker = Tracker("shop", emitter, subject=subject, app_id="app-1" if is_plain else key, encode_base64=not is_plain)

    def until_taken():
        deadline = time.monotonic() + PATIENCE_S
        while emitter.event_store.size() and time.monotonic() < deadline:
            emitter.flush()
            time.sleep(0.05)
        if emitter.event_store.size():
            calls.errors.append(f"{emitter.event_store.size()} events were not sent")

    def track(kind, index, name, rest, **columns):
        case = calls.row(
            name=name,
            subject="user-1",
            timestamp=(MILLIS + index) * 1_000,
            context_has={"library": {"name": "py", "version": "1.1.0"}},
            rest={"duid": "device-1", "ip": None, "stm": None, "aid": "app-1" if is_plain else None, **rest},
            **columns,
        )
        context = [SelfDescribingJson("iglu:com.acme/case/jsonschema/1-0-0", case)]
        tracker.track(kind(context=context, true_timestamp=MILLIS + index))
        # Several batches. The tracker forgets what fails in a batch of GETs whose last one succeeds.
        if sdk == "snowplow-get" or index % 3 == 2:
            until_taken()

    for index in range(12):
        data = {"index": index, **VALUES}
        track(
            lambda data=data, **own: SelfDescribing(SelfDescribingJson(ORDER, data), **own),
            index,
            "order_completed",
            {"schema": ORDER, "e": "ue", "ue_px": None, "ue_pr": None, "cx": None, "co": None},
            properties=data,
        )
    track(
        lambda **own: StructuredEvent("shop", "add to basket", label="Zürich", property_="color", value=19.9, **own),
        20,
        "add to basket",
        {"e": "se"},
        properties={"category": "shop", "action": "add to basket", "label": "Zürich", "property": "color", "value": 19.9},
    )
    track(
        lambda **own: PageView(URL, page_title="Docs", referrer="https://a.example/", **own),
        21,
        "$page",
        {"e": "pv"},
        properties={"name": "Docs", "url": URL, "referrer": "https://a.example/"},
    )
    track(
        lambda **own: PagePing(URL, page_title="Docs", min_x=0, max_x=100, min_y=5, max_y=200, **own),
        22,
        "page_ping",
        {"e": "pp"},
        properties={"name": "Docs", "url": URL, "x_min": 0, "x_max": 100, "y_min": 5, "y_max": 200},
    )
    screen = {"id": "5fe74bf0-2bbe-4c26-8e25-30256b54afb5", "name": "Basket"}
    track(
        lambda **own: ScreenView(screen["id"], screen["name"], **own),
        23,
        "$screen",
        {"schema": "iglu:com.snowplowanalytics.mobile/screen_view/jsonschema/1-0-0"},
        properties=screen,
    )
    until_taken()
    if not failed:
        calls.errors.append("the tracker noticed no failure")


def main(sdk, host, key, expected_file):
    calls = CallList(sdk, "snowplow")
    run(calls, sdk, host, key)
    calls.write(expected_file)


if __name__ == "__main__":
    main(*sys.argv[1:])

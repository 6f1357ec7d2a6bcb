"""Makes calls of the SDKs for Python of Amplitude and Mixpanel, and writes what the store must contain of each.

usage: analytics_calls.py SDK HOST KEY EXPECTED_FILE

SDK is amplitude, amplitude-batch (its other path) or mixpanel. See call_list.py for EXPECTED_FILE. A call that an SDK does
not repeat by itself is repeated here, as an application does.
"""

import sys
import time
import uuid

from call_list import CallList

MILLIS = 1_795_168_800_123
VALUES = {"price": 19.99, "tags": ["a", {"b": None}], "city": "Zürich 東京 🚀", "paid": True}
ATTEMPTS = 5


def amplitude(calls, sdk, host, key):
    from amplitude import Amplitude, BaseEvent, EventOptions, Identify

    ended = []

    def taken(event, code, message):
        ended.append(event)
        if code != 200:
            calls.errors.append(f"{event.event_type}: {code} {message}")

    client = Amplitude(key)
    configuration = client.configuration
    configuration.server_url = host + ("/batch" if sdk == "amplitude-batch" else "/2/httpapi")
    configuration.flush_queue_size, configuration.flush_interval_millis = 8, 100
    configuration.callback = taken
    library = {"library": {"name": "amplitude-python", "version": "1.3.0"}}
    for index in range(40):
        insert_id = str(uuid.uuid4()) if index % 2 else f"insert-{index}"
        case = calls.row(
            name=f"Order {index % 3}",
            subject=f"user-{index % 5}",
            timestamp=(MILLIS + index) * 1_000,
            client_id=None if index % 2 else insert_id,
            properties_have={"index": index, **VALUES},
            context_has=library,
        )
        client.track(
            BaseEvent(
                f"Order {index % 3}",
                user_id=f"user-{index % 5}",
                insert_id=insert_id,
                time=MILLIS + index,
                event_properties={"index": index, **VALUES, **case},
            )
        )
        time.sleep(0.01)
    traits = Identify()
    case = calls.row(name="$identify", subject="user-1", properties_have={"plan": "pro"})
    for name, value in {"plan": "pro", **case}.items():
        traits.set(name, value)
    client.identify(traits, EventOptions(user_id="user-1"))
    client.flush()
    deadline = time.monotonic() + 20
    # A batch that was refused is sent again later, and shutdown does not wait for that. One whose answer was lost is
    # never reported.
    while len(ended) < len(calls.expected) and time.monotonic() < deadline:
        time.sleep(0.1)
    client.shutdown()


def mixpanel(calls, sdk, host, key):
    from mixpanel import Consumer, Mixpanel

    client = Mixpanel(key, consumer=Consumer(
        events_url=f"{host}/track", people_url=f"{host}/engage", groups_url=f"{host}/groups", import_url=f"{host}/import"
    ))

    def until_taken(call):
        for attempt in range(ATTEMPTS):
            try:
                return call()
            except Exception:  # noqa: BLE001 the SDK has several
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(1)
        return None

    library = {"library": {"name": "python", "version": "5.4.1"}}
    for index in range(20):
        insert_id = f"insert-{index}"
        case = calls.row(
            name=f"Order {index % 3}",
            subject=f"user-{index % 5}",
            timestamp=(MILLIS // 1_000 + index) * 1_000_000,
            client_id=insert_id,
            properties_have={"index": index, **VALUES},
            context_has=library,
        )
        properties = {"index": index, **VALUES, **case, "$insert_id": insert_id, "time": MILLIS // 1_000 + index}
        user, name = f"user-{index % 5}", f"Order {index % 3}"
        if index < 15:
            until_taken(lambda user=user, name=name, own=properties: client.track(user, name, own))
        else:
            moment = properties.pop("time")
            until_taken(
                lambda user=user, name=name, own=properties, moment=moment: client.import_data(
                    "", user, name, moment, own, api_secret=key
                )
            )
    case = calls.row(name="$identify", subject="user-1", properties_have={"plan": "pro"})
    until_taken(lambda: client.people_set("user-1", {"plan": "pro", **case}))
    case = calls.row(name="$group", subject="c1", properties_have={"seats": 3})
    until_taken(lambda: client.group_set("company", "c1", {"seats": 3, **case}))


def main(sdk, host, key, expected_file):
    family = sdk.split("-")[0]
    calls = CallList(sdk, family)
    {"amplitude": amplitude, "mixpanel": mixpanel}[family](calls, sdk, host, key)
    calls.write(expected_file)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Makes calls of the SDKs for Python of OpenMeter and Lago, and of the package cloudevents, and writes what the store must
contain of each.

usage: metering_calls.py SDK HOST KEY EXPECTED_FILE

SDK is openmeter, lago or cloudevents. See call_list.py for EXPECTED_FILE. A call that an SDK does not repeat by itself is
repeated here, as an application does.
"""

import sys
import time
import uuid
from datetime import datetime, timedelta, timezone

from call_list import CallList

AT = datetime(2026, 11, 20, 10, 0, 0, tzinfo=timezone.utc)
MICROS = 1_795_168_800_000_000
ATTEMPTS = 5


def until_taken(call):
    """Calls until the SDK reports no error."""
    for attempt in range(ATTEMPTS):
        try:
            return call()
        except Exception as error:  # noqa: BLE001 each SDK has its own
            if attempt == ATTEMPTS - 1:
                raise
            print(f"again after {error!r}", file=sys.stderr)
            time.sleep(1)
    return None


def cloud_event(calls, index):
    """The attributes of an event whose row is expected."""
    event_id = str(uuid.uuid4()) if index % 2 else f"event-{index}"
    values = {"tokens": index, "city": "Zürich 🚀"}
    case = calls.row(
        name="prompt",
        subject=f"customer-{index % 5}",
        timestamp=MICROS + index * 1_000_000,
        client_id=event_id,
        properties_have=values,
        rest={"source": "/gateway"},
    )
    return {
        "id": event_id,
        "source": "/gateway",
        "specversion": "1.0",
        "type": "prompt",
        "subject": f"customer-{index % 5}",
        "time": AT + timedelta(seconds=index),
        "data": {**values, **case},
    }


def openmeter(calls, host, key):
    from openmeter import Client
    from openmeter.models import Event

    with Client(endpoint=host, token=key) as client:
        for start in range(0, 10):
            event = Event(**cloud_event(calls, start))
            until_taken(lambda event=event: client.events.ingest_event(event))
        for start in range(10, 40, 8):
            events = [Event(**cloud_event(calls, index)) for index in range(start, start + 8)]
            until_taken(lambda events=events: client.events.ingest_events(events))
        events = [Event(**cloud_event(calls, index)) for index in range(50, 55)]
        until_taken(lambda: client.events.ingest_events_json(events))


def cloudevents(calls, host, key):
    import requests
    from cloudevents.core.bindings.http import to_binary_event, to_structured_event
    from cloudevents.core.v1.event import CloudEvent

    def post(message):
        headers = {**message.headers, "Authorization": f"Bearer {key}"}
        answer = requests.post(f"{host}/v1/cloudevents", data=message.body, headers=headers, timeout=30)
        answer.raise_for_status()

    for index in range(20):
        attributes = cloud_event(calls, index)
        data = attributes.pop("data")
        event = CloudEvent(attributes=attributes, data=data)
        message = to_binary_event(event) if index % 2 else to_structured_event(event)
        until_taken(lambda message=message: post(message))


def lago(calls, host, key):
    from lago_python_client.client import Client
    from lago_python_client.models import BatchEvent, Event

    client = Client(api_key=key, api_url=host + "/")

    def event(index):
        row = {
            "name": "api_calls",
            "subject": f"sub-{index % 5}",
            "timestamp": MICROS + index * 1_000_000,
            "client_id": f"transaction-{index}",
            "properties_have": {"n": index},
        }
        return Event(
            transaction_id=f"transaction-{index}",
            external_subscription_id=f"sub-{index % 5}",
            code="api_calls",
            timestamp=MICROS // 1_000_000 + index,
            properties={"n": index, **calls.row(**row)},
        )

    for index in range(10):
        one = event(index)
        answer = until_taken(lambda one=one: client.events.create(one))
        if answer.transaction_id != one.transaction_id:
            calls.errors.append(f"another event was answered: {answer}")
    for start in range(10, 40, 8):
        events = BatchEvent(events=[event(index) for index in range(start, start + 8)])
        until_taken(lambda events=events: client.events.batch_create(events))


def main(sdk, host, key, expected_file):
    calls = CallList(sdk, "lago" if sdk == "lago" else "cloudevents")
    {"openmeter": openmeter, "lago": lago, "cloudevents": cloudevents}[sdk](calls, host, key)
    calls.write(expected_file)


if __name__ == "__main__":
    main(*sys.argv[1:])

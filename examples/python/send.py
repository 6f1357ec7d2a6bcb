#!/usr/bin/env python3
"""Sends three events with the standard library, and retries with the same ids until the server has answered.

    MILLRACE_URL=http://127.0.0.1:8080 MILLRACE_KEY=mk_... python3 examples/python/send.py [--gzip]

The ids and timestamps are fixed, so a second run stores nothing new.
"""

import gzip
import http.client
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request

ATTEMPTS = 8
TIMEOUT_S = 10
# A longer Retry-After means that the month's quota is used up: retrying now is of no use.
WAIT_S_MAX = 60

EVENTS = [
    {
        "name": "order_completed",
        "subject": "user-1",
        "id": "python-order-1001",
        "timestamp": "2026-01-15T10:00:00Z",
        "properties": {"revenue": 19.90, "currency": "EUR"},
    },
    {
        "name": "order_completed",
        "subject": "user-2",
        "id": "python-order-1002",
        "timestamp": "2026-01-15T10:05:00Z",
        "properties": {"revenue": 5.00, "currency": "EUR"},
    },
    {
        "name": "order_refunded",
        "subject": "user-1",
        "id": "python-refund-1001",
        "timestamp": "2026-01-15T11:00:00Z",
        "properties": {"revenue": 19.90, "currency": "EUR"},
    },
]


class Refused(Exception):
    """The server refused the batch, and the same batch would be refused again."""


def send(url, key, events, compress=False):
    """Posts a batch and returns the answer. Raises Refused, or TimeoutError after the last attempt."""
    body = json.dumps({"events": events}).encode()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    if compress:
        body = gzip.compress(body)
        headers["Content-Encoding"] = "gzip"
    reason, wait_s = "no attempt was made", 0.0
    for attempt in range(ATTEMPTS):
        if attempt > 0:
            print(f"attempt {attempt} failed: {reason}; retrying in {wait_s:.1f} s", file=sys.stderr)
            time.sleep(wait_s)
        wait_s = min(2**attempt, 30) * random.uniform(0.5, 1.0)
        request = urllib.request.Request(f"{url}/v1/events", data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            reason = f"{error.code} {error.read().decode(errors='replace')}"
            if error.code not in (408, 429) and error.code < 500:
                raise Refused(reason) from error
            if "Retry-After" in error.headers:
                wait_s = int(error.headers["Retry-After"])
                if wait_s > WAIT_S_MAX:
                    raise Refused(reason) from error
        except (OSError, http.client.HTTPException) as error:
            # No answer: the batch may or may not have been accepted. The same ids make it safe to send it again.
            reason = repr(error)
    raise TimeoutError(f"gave up after {ATTEMPTS} attempts: {reason}")


def main():
    key = os.environ.get("MILLRACE_KEY") or sys.exit("set MILLRACE_KEY to a key of your project")
    url = os.environ.get("MILLRACE_URL", "http://127.0.0.1:8080")
    try:
        answer = send(url, key, EVENTS, compress="--gzip" in sys.argv[1:])
    except (Refused, TimeoutError) as error:
        sys.exit(f"not accepted: {error}")
    print(json.dumps(answer))
    if answer["rejected"]:
        sys.exit(f"{len(answer['rejected'])} events were rejected")


if __name__ == "__main__":
    main()

"""Realistic load: shops whose visitors look, put things into a cart, and sometimes buy.

  pip install -r locust/requirements.txt
  MILLRACE_KEY=mk_... locust -f locust/locustfile.py --host http://127.0.0.1:8080 \\
      --headless --users 50 --spawn-rate 10 --run-time 1m

MILLRACE_KEY may hold several keys, separated by commas; every user takes one. Answers 429 are the plan at work, not
failures: they are counted under a name of their own.
"""

import json
import os
import random
import uuid
from datetime import datetime, timezone

from locust import FastHttpUser, between, task

KEYS = [key.strip() for key in os.environ.get("MILLRACE_KEY", "").split(",") if key.strip()]
FUNNEL = ("page_view", "product_viewed", "add_to_cart", "checkout", "purchase")
# How many of those who reached a step go on to the next.
GOES_ON = 0.6


class RealisticUser(FastHttpUser):
    """Posts 5 to 15 events of a visit at a time, as an SDK that collects for a moment does."""

    wait_time = between(1, 3)

    def on_start(self):
        if not KEYS:
            raise SystemExit("MILLRACE_KEY is not set: make one with `millrace project create shop --plan pro`")
        self.subject = f"visitor-{random.randrange(100_000)}"
        self.authorization = f"Bearer {random.choice(KEYS)}"

    @task
    def visit(self):
        body = json.dumps({"events": [self.event() for _ in range(random.randint(5, 15))]})
        headers = {
            "Authorization": self.authorization,
            "Content-Type": "application/json",
            "Idempotency-Key": str(uuid.uuid4()),
        }
        with self.client.post("/v1/events", data=body, headers=headers, catch_response=True) as answer:
            if answer.status_code == 429:
                answer.request_meta["name"] = "/v1/events (429: over the plan)"
                answer.success()
            elif answer.status_code != 202:
                answer.failure(f"{answer.status_code}: {answer.text}")

    def event(self):
        step = 0
        while step + 1 < len(FUNNEL) and random.random() < GOES_ON:
            step += 1
        return {
            "id": str(uuid.uuid4()),
            "name": FUNNEL[step],
            "timestamp": datetime.now(timezone.utc).isoformat(),
            "subject": self.subject,
            "properties": {
                "product": f"sku-{random.randrange(5_000)}",
                "price": round(random.uniform(1, 200), 2),
                "currency": "EUR",
                "referrer": random.choice(("search", "mail", "direct", "partner")),
            },
            "context": {"page": {"path": f"/p/{random.randrange(5_000)}"}, "locale": "de-DE"},
        }

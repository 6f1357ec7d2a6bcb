"""Who loads: users as Locust runs them, and the ledger they keep.

Runs inside Locust's processes, of which there may be several: those that only send report their part of the ledger to the
one that leads, along with Locust's own figures, and that one writes it down when all is over.
"""

import json
import os
import random
import time
from itertools import count
from pathlib import Path

from locust import FastHttpUser, LoadTestShape, between, constant, events, task
from locust.env import Environment
from locust.runners import WorkerRunner
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_WAITING

from load.events import FUNNEL, Event, Repeater, body, event, visit
from load.ledger import ACCEPTED, OVER_PLAN, Ledger

PATH = "/v1/events"
STRESS_EVENTS = 200
REPORTED = "millrace_ledger"

KEYS = [key.strip() for key in os.environ.get("MILLRACE_KEYS", "").split(",") if key.strip()]
STAGES = json.loads(os.environ.get("LOAD_STAGES", "[]"))
LEDGER_FILE = os.environ.get("LOAD_LEDGER")

ledger = Ledger()
_turn = count(random.randrange(1_000))


class Sender(FastHttpUser):
    """What all users do: post a batch, and write down what became of it."""

    abstract = True
    # A request that Locust repeated by itself would stand in nobody's ledger.
    max_retries = 0
    connection_timeout = 10.0
    network_timeout = 30.0

    def on_start(self) -> None:
        """Takes a key, in turn."""
        if not KEYS:
            raise SystemExit("MILLRACE_KEYS is not set: make one with `millrace project create shop --plan pro`")
        self.project = next(_turn) % len(KEYS)
        self.headers = {"Authorization": f"Bearer {KEYS[self.project]}", "Content-Type": "application/json"}
        self.chance = random.Random()
        self.subject = f"visitor-{self.chance.randrange(100_000)}"
        self.repeater = Repeater(self.chance)

    def stop(self, force: bool = False) -> bool:
        """Lets a wait end before the user does: one that is killed while it wakes up is killed inside its next request."""
        if self._state == LOCUST_STATE_WAITING and not force:
            self._state = LOCUST_STATE_RUNNING
        return super().stop(force)

    def post_batch(self, batch: list[Event]) -> None:
        """Sends it, a few of its events replaced by such as were accepted before."""
        duplicates = self.repeater.spoil(batch)
        sent_s = time.time()
        ledger.sent(self.project, len(batch))
        with self.client.post(PATH, data=body(batch), headers=self.headers, catch_response=True) as answer:
            if answer.status_code == ACCEPTED and answer.json()["accepted"] == len(batch):
                took_ms = answer.request_meta["response_time"]
                ledger.accepted(self.project, len(batch), duplicates, sent_s, took_ms)
                self.repeater.remember(batch)
                answer.success()
            elif answer.status_code == OVER_PLAN:
                ledger.over_plan(self.project, len(batch), sent_s)
                answer.request_meta["name"] = f"{PATH} (429: over the plan)"
                answer.success()
            else:
                reason = f"{answer.status_code}: {answer.text or answer.error}"[:200]
                ledger.failed(self.project, len(batch), answer.status_code, reason)
                answer.failure(reason)


class RealisticUser(Sender):
    """A visitor: 5 to 15 events of the funnel at a time, as an SDK that collects for a moment posts them."""

    wait_time = between(1, 3)

    @task
    def visit(self) -> None:
        """A part of a visit."""
        self.post_batch(visit(self.subject, self.chance.randint(5, 15), self.chance))


class StressUser(Sender):
    """A server that collects for many visitors: 200 events at a time, and the next as soon as there is an answer."""

    wait_time = constant(0)

    @task
    def flush(self) -> None:
        """A full batch."""
        batch = [event(self.chance.choice(FUNNEL), self.subject, self.chance) for _ in range(STRESS_EVENTS)]
        self.post_batch(batch)


if STAGES:

    class Stages(LoadTestShape):
        """The stages of a profile, one after the other."""

        def tick(self) -> tuple[int, float] | None:
            """How many users there are now; None is the end."""
            left = self.get_run_time()
            for stage in STAGES:
                if left < stage["seconds"]:
                    return stage["users"], stage["spawn_rate"]
                left -= stage["seconds"]
            return None


@events.report_to_master.add_listener
def _report(client_id: str, data: dict[str, object]) -> None:
    data[REPORTED] = ledger.take()


@events.worker_report.add_listener
def _take_up(client_id: str, data: dict[str, object]) -> None:
    ledger.add(Ledger.from_json(data.get(REPORTED, {})))


@events.init.add_listener
def _write_at_the_end(environment: Environment, **_: object) -> None:
    if LEDGER_FILE is None or isinstance(environment.runner, WorkerRunner):
        return

    @environment.events.quit.add_listener
    def _write(exit_code: int, **_: object) -> None:
        Path(LEDGER_FILE).write_text(json.dumps(ledger.to_json()), encoding="utf-8")

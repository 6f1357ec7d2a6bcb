"""The users that Locust runs, and the ledger of their requests.

This module runs inside Locust's processes. With several processes, each worker process sends its ledger to
the master process when the load ends. The master process adds the ledgers up and writes them to one file.
"""

import json
import os
import random
import time
from itertools import count
from pathlib import Path

import gevent
from locust import FastHttpUser, LoadTestShape, between, constant, events, task
from locust.env import Environment
from locust.rpc import Message
from locust.runners import MasterRunner, WorkerRunner
from locust.user.task import LOCUST_STATE_RUNNING, LOCUST_STATE_WAITING

from load.events import FUNNEL, Event, Repeater, body, event, visit
from load.ledger import ACCEPTED, OVER_PLAN, Ledger

PATH = "/v1/events"
STRESS_EVENTS = 200
# Messages between Locust processes: "the load has ended" to the workers, and their ledgers to the master.
LOAD_ENDED, LEDGER = "millrace_load_ended", "millrace_ledger"
# How long the master waits for ledgers, in addition to the time that users have to finish.
COLLECT_GRACE_S = 30

KEYS = [key.strip() for key in os.environ.get("MILLRACE_KEYS", "").split(",") if key.strip()]
STAGES = json.loads(os.environ.get("LOAD_STAGES", "[]"))
LEDGER_FILE = os.environ.get("LOAD_LEDGER")

ledger = Ledger()
_reported_workers: set[str] = set()
_next_key = count(random.randrange(1_000))


class BatchUser(FastHttpUser):
    """The base of all users: posts batches and records the answers in the ledger."""

    abstract = True
    # The ledger would not contain requests that Locust repeats by itself.
    max_retries = 0
    connection_timeout = 10.0
    network_timeout = 30.0

    def on_start(self) -> None:
        """Takes the next key; users share the keys in turn."""
        if not KEYS:
            raise SystemExit("MILLRACE_KEYS is not set; create a key with `millrace project create shop --plan pro`")
        self.project = next(_next_key) % len(KEYS)
        self.headers = {"Authorization": f"Bearer {KEYS[self.project]}", "Content-Type": "application/json"}
        self.rng = random.Random()
        self.subject = f"visitor-{self.rng.randrange(100_000)}"
        self.repeater = Repeater(self.rng)

    def stop(self, force: bool = False) -> bool:
        """Lets a waiting user end after its wait. Locust would kill it, possibly inside its next request."""
        if self._state == LOCUST_STATE_WAITING and not force:
            self._state = LOCUST_STATE_RUNNING
        return super().stop(force)

    def post_batch(self, batch: list[Event]) -> None:
        """Posts a batch, with a few events replaced by events that were accepted before."""
        duplicates = self.repeater.insert_duplicates(batch)
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


class RealisticUser(BatchUser):
    """A visitor whose SDK posts 5 to 15 events of the funnel at a time, with pauses of 1 to 3 seconds."""

    wait_time = between(1, 3)

    @task
    def visit(self) -> None:
        """Posts the next events of the visit."""
        self.post_batch(visit(self.subject, self.rng.randint(5, 15), self.rng))


class StressUser(BatchUser):
    """A server that posts the events of many visitors: 200 at a time, without pauses."""

    wait_time = constant(0)

    @task
    def flush(self) -> None:
        """Posts a full batch."""
        batch = [event(self.rng.choice(FUNNEL), self.subject, self.rng) for _ in range(STRESS_EVENTS)]
        self.post_batch(batch)


if STAGES:

    class Stages(LoadTestShape):
        """Runs the stages of the profile one after the other."""

        def tick(self) -> tuple[int, float] | None:
            """The number of users and the spawn rate at this time; None ends the load."""
            elapsed = self.get_run_time()
            for stage in STAGES:
                if elapsed < stage["seconds"]:
                    return stage["users"], stage["spawn_rate"]
                elapsed -= stage["seconds"]
            if isinstance(self.runner, MasterRunner):
                _collect_ledgers(self.runner)
            return None


def _stop_and_send_ledger(environment: Environment, **_: object) -> None:
    """In a worker process: lets the users finish, then sends the ledger to the master."""
    environment.runner.stop()
    environment.runner.send_message(LEDGER, ledger.take())


def _add_worker_ledger(msg: Message, **_: object) -> None:
    ledger.add(Ledger.from_json(msg.data))
    _reported_workers.add(msg.node_id)


def _collect_ledgers(runner: MasterRunner) -> None:
    """In the master process: waits for all ledgers, because Locust itself waits only half a second."""
    workers = runner.worker_count
    runner.send_message(LOAD_ENDED)
    with gevent.Timeout(runner.environment.stop_timeout + COLLECT_GRACE_S, False):
        while len(_reported_workers) < workers:
            gevent.sleep(0.05)


@events.init.add_listener
def _set_up_ledger(environment: Environment, **_: object) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message(LOAD_ENDED, _stop_and_send_ledger, concurrent=True)
        return
    if isinstance(runner, MasterRunner):
        runner.register_message(LEDGER, _add_worker_ledger)

    @environment.events.quit.add_listener
    def _write_ledger(exit_code: int, **_: object) -> None:
        if LEDGER_FILE is not None:
            Path(LEDGER_FILE).write_text(json.dumps(ledger.to_json()), encoding="utf-8")

"""Who loads: users as Locust runs them, and the ledger they keep.

Runs inside Locust's processes, of which there may be several: when the load is over, those that send report their ledgers to the
one that leads, which adds them up and writes them down.
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
# Messages between the processes of Locust.
OVER, REPORTED = "millrace_over", "millrace_ledger"
# Beyond the time that users have to finish.
COLLECT_GRACE_S = 30

KEYS = [key.strip() for key in os.environ.get("MILLRACE_KEYS", "").split(",") if key.strip()]
STAGES = json.loads(os.environ.get("LOAD_STAGES", "[]"))
LEDGER_FILE = os.environ.get("LOAD_LEDGER")

ledger = Ledger()
_reported: set[str] = set()
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
            if isinstance(self.runner, MasterRunner):
                _collect(self.runner)
            return None


def _end_and_report(environment: Environment, **_: object) -> None:
    """In a process that sends: everybody finishes, and the ledger goes to the one that leads."""
    environment.runner.stop()
    environment.runner.send_message(REPORTED, ledger.take())


def _take_up(msg: Message, **_: object) -> None:
    ledger.add(Ledger.from_json(msg.data))
    _reported.add(msg.node_id)


def _collect(runner: MasterRunner) -> None:
    """Locust waits half a second for last reports, and users may need longer to finish what they have begun."""
    wanted = runner.worker_count
    runner.send_message(OVER)
    with gevent.Timeout(runner.environment.stop_timeout + COLLECT_GRACE_S, False):
        while len(_reported) < wanted:
            gevent.sleep(0.05)


@events.init.add_listener
def _keep_one_ledger(environment: Environment, **_: object) -> None:
    runner = environment.runner
    if isinstance(runner, WorkerRunner):
        runner.register_message(OVER, _end_and_report, concurrent=True)
        return
    if isinstance(runner, MasterRunner):
        runner.register_message(REPORTED, _take_up)

    @environment.events.quit.add_listener
    def _write(exit_code: int, **_: object) -> None:
        if LEDGER_FILE is not None:
            Path(LEDGER_FILE).write_text(json.dumps(ledger.to_json()), encoding="utf-8")

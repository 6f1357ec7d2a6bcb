"""A client for the HTTP API of Millrace: the plan and the usage of one project."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from load.plan import Plan

TIMEOUT_S = 15.0
# A new key is valid in every API process within seconds. A process that has just started has no keys yet.
KEY_DEADLINE_S = 60.0
RETRY_STATUSES = (401, 503)


class ServiceError(Exception):
    """A request to the service failed. `status` is the HTTP status, or 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Usage:
    """The number of events that the service metered for a project."""

    stored: int
    duplicates: int
    dead: int

    @property
    def total(self) -> int:
        """All events that are no longer in the backlog."""
        return self.stored + self.duplicates + self.dead

    def since(self, before: "Usage") -> "Usage":
        """The usage after `before`."""
        return Usage(self.stored - before.stored, self.duplicates - before.duplicates, self.dead - before.dead)


class UsagePeriod:
    """Yesterday to five days from now, fixed when the run starts: all readings must cover the same days."""

    def __init__(self) -> None:
        today = datetime.now(UTC).date()
        self.query = f"from={today - timedelta(days=1)}&to={today + timedelta(days=5)}&window=day"


class ProjectClient:
    """Requests with the key of one project."""

    def __init__(self, host: str, key: str) -> None:
        self._host = host.rstrip("/")
        self._key = key

    def plan(self) -> Plan:
        """The project's plan, and how much of its burst is left."""
        limits = self._get("/v1/limits")
        requests = limits["requests"]
        return Plan(limits["plan"], requests["per_minute"], requests["burst"], requests["left"])

    def wait_for_plan(self) -> Plan:
        """Like `plan`, but retries while the key is not known yet or the service is starting."""
        deadline = time.monotonic() + KEY_DEADLINE_S
        while True:
            try:
                return self.plan()
            except ServiceError as error:
                if error.status not in RETRY_STATUSES or time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def usage(self, period: UsagePeriod) -> Usage:
        """The project's usage in this period."""
        total = self._get(f"/v1/usage?{period.query}")["total"]
        return Usage(total["events"], total["duplicates"], total["dead"])

    def _get(self, path: str) -> dict:
        request = urllib.request.Request(self._host + path, headers={"Authorization": f"Bearer {self._key}"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            message = f"GET {self._host}{path} was answered {error.code}: {error.read(300).decode()}"
            raise ServiceError(message, error.code) from error
        except (OSError, ValueError) as error:
            raise ServiceError(f"GET {self._host}{path} failed: {error}") from error

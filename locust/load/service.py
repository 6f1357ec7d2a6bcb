"""The service as its clients can ask it, one key at a time."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from load.plan import Plan

TIMEOUT_S = 15.0
# A key that was made just now is known to every API process within seconds, and a process that starts knows none yet.
KEY_DEADLINE_S = 60.0
NOT_YET = (401, 503)


class Unanswered(Exception):
    """The service gave no answer that can be used. `status` is 0 when it gave none."""

    def __init__(self, says: str, status: int = 0) -> None:
        super().__init__(says)
        self.status = status


@dataclass(frozen=True)
class Usage:
    """What the service has metered."""

    stored: int
    duplicates: int
    dead: int

    @property
    def total(self) -> int:
        """Everything that has left the backlog."""
        return self.stored + self.duplicates + self.dead

    def since(self, before: "Usage") -> "Usage":
        """The difference."""
        return Usage(self.stored - before.stored, self.duplicates - before.duplicates, self.dead - before.dead)


class Period:
    """From before a run until after it, in whole days, so that both readings are of the same."""

    def __init__(self) -> None:
        today = datetime.now(UTC).date()
        self.query = f"from={today - timedelta(days=1)}&to={today + timedelta(days=5)}&window=day"


class Project:
    """One project, by its key."""

    def __init__(self, host: str, key: str) -> None:
        self._host = host.rstrip("/")
        self._key = key

    def limits(self) -> Plan:
        """The plan, and what is left of its burst."""
        plain = self._get("/v1/limits")
        requests = plain["requests"]
        return Plan(plain["plan"], requests["per_minute"], requests["burst"], requests["left"])

    def limits_when_known(self) -> Plan:
        """The same, waiting for a key that is too new to be known everywhere, and for a service that starts."""
        deadline = time.monotonic() + KEY_DEADLINE_S
        while True:
            try:
                return self.limits()
            except Unanswered as problem:
                if problem.status not in NOT_YET or time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def usage(self, period: Period) -> Usage:
        """What was stored in this period."""
        total = self._get(f"/v1/usage?{period.query}")["total"]
        return Usage(total["events"], total["duplicates"], total["dead"])

    def _get(self, path: str) -> dict:
        request = urllib.request.Request(self._host + path, headers={"Authorization": f"Bearer {self._key}"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            says = f"GET {path} was answered {refusal.code}: {refusal.read(300).decode()}"
            raise Unanswered(says, refusal.code) from refusal
        except (OSError, ValueError) as problem:
            raise Unanswered(f"GET {self._host}{path}: {problem}") from problem

"""The result of a run, as `result.json` stores it."""

import dataclasses
import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from load.checks import Check, check_plan
from load.ledger import Ledger
from load.monitor import Samples
from load.plan import Plan
from load.profiles import Profile
from load.stats import growth_mb_per_hour, percentile


@dataclass
class ProjectResult:
    """The requests of one project, and how many its plan was predicted to admit."""

    plan: str
    requests_per_minute: int
    accepted: int
    over_plan: int
    over_plan_predicted: int
    accepted_per_minute: float
    accepted_per_minute_predicted: float


@dataclass
class RunResult:
    """The fields of `result.json`. `says` is the description of the profile."""

    profile: str
    says: str
    user: str
    users: int
    seconds: float
    processes: int
    began: str
    machine: str
    requests: int = 0
    over_plan: int = 0
    failures: int = 0
    events: int = 0
    events_per_s: float = 0.0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    drained_s: float | None = None
    backlog_max: int | None = None
    # By program: first and last resident memory in MB, and growth in MB per hour.
    memory: dict[str, list[float | None]] = field(default_factory=dict)
    projects: list[ProjectResult] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    @classmethod
    def start(cls, profile: Profile, processes: int) -> "RunResult":
        """The result of a run that starts now, without measurements yet."""
        users = max(stage.users for stage in profile.stages)
        began = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        seconds = profile.seconds
        return cls(profile.name, profile.description, profile.user, users, seconds, processes, began, machine())

    def add_ledger(self, ledger: Ledger, plans: Sequence[Plan]) -> None:
        """Adds the figures of the load generator's ledger."""
        total = ledger.total()
        self.requests, self.over_plan = total.batches_sent, total.batches_over_plan
        self.failures, self.events = total.batches_failed, total.events_accepted
        self.events_per_s = total.events_accepted / self.seconds
        self.p50_ms, self.p95_ms, self.p99_ms = (
            None if value is None else value / 1000
            for value in (percentile(total.latency_us, share) for share in (0.50, 0.95, 0.99))
        )
        for index, plan in enumerate(plans):
            sent = ledger.of(index)
            predicted, _ = check_plan(index + 1, plan, sent)
            minutes = max(max(sent.offered, default=0) - min(sent.offered, default=0) + 1, 1) / 60
            self.projects.append(
                ProjectResult(
                    plan.name,
                    plan.requests_per_minute,
                    sent.batches_accepted,
                    sent.batches_over_plan,
                    predicted.over_plan,
                    sent.batches_accepted / minutes,
                    predicted.admitted / minutes,
                )
            )

    def add_samples(self, samples: Samples) -> None:
        """Adds the memory of the programs and the largest backlog."""
        for name, values in samples.memory.items():
            growth = growth_mb_per_hour(values)
            self.memory[name] = [round(values[0][1] / 1e6, 1), round(values[-1][1] / 1e6, 1), growth]
        if samples.backlog:
            self.backlog_max = int(max(value for _, value in samples.backlog))

    def write(self, file: Path) -> None:
        """Writes `result.json`."""
        file.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "RunResult":
        """Reads `result.json`."""
        result = cls(**json.loads(file.read_text(encoding="utf-8")))
        result.projects = [ProjectResult(**project) for project in result.projects]
        result.checks = [Check(**check) for check in result.checks]
        return result


def machine() -> str:
    """Processor, memory and versions of this machine in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    names = (line for line in _lines("/proc/cpuinfo") if line.startswith("model name"))
    processor = next((line.partition(":")[2].strip() for line in names), platform.machine())
    cores = len(os.sched_getaffinity(0))
    python = platform.python_version()
    return f"{cores} cores of {processor}, {memory:.0f} GiB, Locust {version('locust')} on Python {python}"


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except OSError:
        return []

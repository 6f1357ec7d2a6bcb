"""The load profiles."""

import dataclasses
from dataclasses import dataclass

PRO_AND_FIVE_ENTERPRISE = ("pro", *["enterprise"] * 5)


@dataclass(frozen=True)
class Stage:
    """A number of users for a number of seconds. `spawn_rate` is in users per second."""

    seconds: float
    users: int
    spawn_rate: float


@dataclass(frozen=True)
class Thresholds:
    """The limits that a run must stay below."""

    p95_ms: float = 100.0
    errors_percent: float = 0.1
    # None unless the run is long enough to tell a memory leak from warm-up.
    memory_mb_per_hour: float | None = None


@dataclass(frozen=True)
class Profile:
    """A load, the projects that it needs and its thresholds. `user` is a class of `load.users`."""

    name: str
    description: str
    stages: tuple[Stage, ...]
    user: str = "RealisticUser"
    # One project is created for each of these plans.
    plans: tuple[str, ...] = PRO_AND_FIVE_ENTERPRISE
    thresholds: Thresholds = Thresholds()

    @property
    def seconds(self) -> float:
        """The duration of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def with_duration(self, seconds: float) -> "Profile":
        """A copy whose stages are stretched or shortened to last `seconds` together."""
        factor = seconds / self.seconds
        stages = (dataclasses.replace(stage, seconds=stage.seconds * factor) for stage in self.stages)
        return dataclasses.replace(self, stages=tuple(stages))

    def with_p95_threshold(self, p95_ms: float) -> "Profile":
        """A copy with another threshold for p95."""
        return dataclasses.replace(self, thresholds=dataclasses.replace(self.thresholds, p95_ms=p95_ms))


def _constant(name: str, description: str, users: int, seconds: float, **options: object) -> Profile:
    # All users start within ten seconds, or within a fifth of a short run.
    spawn_rate = users / min(10.0, seconds / 5)
    return Profile(name, description, (Stage(seconds, users, spawn_rate),), **options)


PROFILES = {
    profile.name: profile
    for profile in (
        _constant("smoke", "a few visitors for a short time: a quick check that everything works", 10, 20),
        _constant("load-50-users", "normal traffic", 50, 90),
        _constant("load-100-users", "busy traffic", 100, 90),
        _constant("sustained-10m", "normal traffic for ten minutes", 50, 600),
        _constant("realistic-1000-users", "more traffic than the plan of the pro project allows", 1000, 180),
        _constant(
            "stress",
            "batches of 200 events from ten senders without pauses",
            10,
            60,
            user="StressUser",
            plans=("enterprise",) * 5,
        ),
        Profile(
            "spike",
            "a sudden rise from 10 to 200 visitors, and back to 10",
            (Stage(30, 10, 10), Stage(60, 200, 200), Stage(30, 10, 200)),
        ),
        _constant(
            "soak",
            "a few visitors for a long time, to find memory leaks",
            20,
            3600,
            thresholds=Thresholds(memory_mb_per_hour=10.0),
        ),
    )
}

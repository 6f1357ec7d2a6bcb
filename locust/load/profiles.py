"""The named loads."""

import dataclasses
from dataclasses import dataclass

PRO_AND_FIVE_ENTERPRISE = ("pro", *["enterprise"] * 5)


@dataclass(frozen=True)
class Stage:
    """So many users for so long."""

    seconds: float
    users: int
    spawn_rate: float


@dataclass(frozen=True)
class Thresholds:
    """What a run is held to."""

    p95_ms: float = 100.0
    errors_percent: float = 0.1
    # Only where a run is long enough to tell growth from warming up.
    memory_mb_per_hour: float | None = None


@dataclass(frozen=True)
class Profile:
    """A load, and what it is held to."""

    name: str
    says: str
    stages: tuple[Stage, ...]
    user: str = "RealisticUser"
    # The plans of the projects that are made for it.
    plans: tuple[str, ...] = PRO_AND_FIVE_ENTERPRISE
    thresholds: Thresholds = Thresholds()

    @property
    def seconds(self) -> float:
        """How long it loads."""
        return sum(stage.seconds for stage in self.stages)

    def lasting(self, seconds: float) -> "Profile":
        """The same, with every stage stretched or shortened so that all of them last this long."""
        factor = seconds / self.seconds
        stages = (dataclasses.replace(stage, seconds=stage.seconds * factor) for stage in self.stages)
        return dataclasses.replace(self, stages=tuple(stages))

    def held_to(self, p95_ms: float) -> "Profile":
        """The same, with another threshold."""
        return dataclasses.replace(self, thresholds=dataclasses.replace(self.thresholds, p95_ms=p95_ms))


def _steady(name: str, says: str, users: int, seconds: float, **special: object) -> Profile:
    # Ten seconds, or a fifth of a short run, until everybody is there.
    spawn_rate = users / min(10.0, seconds / 5)
    return Profile(name, says, (Stage(seconds, users, spawn_rate),), **special)


PROFILES = {
    profile.name: profile
    for profile in (
        _steady("smoke", "a few visitors for a moment, to see whether it works at all", 10, 20),
        _steady("load-50-users", "an ordinary day", 50, 90),
        _steady("load-100-users", "a good day", 100, 90),
        _steady("sustained-10m", "an ordinary day for ten minutes", 50, 600),
        _steady("realistic-1000-users", "more than the pro project's plan allows", 1000, 180),
        _steady(
            "stress",
            "batches of 200 events from ten senders that never wait",
            10,
            60,
            user="StressUser",
            plans=("enterprise",) * 5,
        ),
        Profile(
            "spike",
            "from 10 visitors to 200 at once, and back",
            (Stage(30, 10, 10), Stage(60, 200, 200), Stage(30, 10, 200)),
        ),
        _steady(
            "soak",
            "few visitors for a long time, to see whether memory grows",
            20,
            3600,
            thresholds=Thresholds(memory_mb_per_hour=10.0),
        ),
    )
}

"""Percentiles and memory growth. No I/O."""

from collections.abc import Mapping, Sequence
from statistics import median

BYTES_PER_MB = 1_000_000
# A shorter run is too short to extrapolate its growth to an hour.
GROWTH_SECONDS_MIN = 300


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The smallest value that at least `share` of all values do not exceed; None without values.

    `counts` maps each value to the number of times that it occurs.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    counted = 0
    for value in sorted(counts):
        counted += counts[value]
        if counted >= share * total:
            return float(value)
    raise AssertionError("the share is greater than 1")


def growth_mb_per_hour(samples: Sequence[tuple[float, float]]) -> float | None:
    """Memory growth from samples of (seconds, bytes); None when there are too few samples.

    Ignores the first quarter, which is warm-up, and compares the median of the second quarter with that of
    the last, so that single peaks and dips do not matter.
    """
    if len(samples) < 8 or samples[-1][0] - samples[0][0] < GROWTH_SECONDS_MIN:
        return None
    first, last = samples[0][0], samples[-1][0]
    quarter = (last - first) / 4
    early = [memory for at, memory in samples if first + quarter <= at < first + 2 * quarter]
    late = [memory for at, memory in samples if at >= first + 3 * quarter]
    if not early or not late:
        return None
    hours = 2 * quarter / 3600
    return (median(late) - median(early)) / BYTES_PER_MB / hours

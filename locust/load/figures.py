"""Percentiles and growth. No I/O."""

from collections.abc import Mapping, Sequence
from statistics import median

MB = 1_000_000
# Of less than this nobody can say what an hour would bring.
GROWTH_SECONDS_MIN = 300


def percentile(counts: Mapping[int, int], share: float) -> float | None:
    """The smallest value that at least this share of all values does not exceed; None of nothing."""
    total = sum(counts.values())
    if total == 0:
        return None
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * total:
            return float(value)
    raise AssertionError("all values together are all values")


def growth_mb_per_hour(samples: Sequence[tuple[float, float]]) -> float | None:
    """How memory grows, of (seconds, bytes); None when there is too little to tell.

    The first quarter is warming up. The median of the second is compared with that of the last, so that neither a
    peak nor a dip decides.
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
    return (median(late) - median(early)) / MB / hours

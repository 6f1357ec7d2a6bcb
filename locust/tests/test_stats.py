"""Percentiles and memory growth."""

from load.stats import growth_mb_per_hour, percentile


def test_a_percentile_is_the_smallest_value_that_this_share_of_values_does_not_exceed() -> None:
    counts = dict.fromkeys(range(1, 101), 1)
    assert [percentile(counts, share) for share in (0.0, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert percentile({7: 19, 1_000: 1}, 0.95) == 7
    assert percentile({7: 18, 1_000: 2}, 0.95) == 1_000


def test_no_values_have_no_percentile() -> None:
    assert percentile({}, 0.95) is None


def test_growth_is_scaled_to_an_hour() -> None:
    samples = [(float(second), 50e6 + second * 12e6 / 3600) for second in range(1_200)]
    growth = growth_mb_per_hour(samples)
    assert growth is not None
    assert abs(growth - 12) < 0.1


def test_warm_up_and_single_peaks_do_not_count_as_growth() -> None:
    samples = [(float(second), 80e6 if second > 200 else 20e6) for second in range(1_200)]
    samples[1_100] = (1_100.0, 900e6)
    assert growth_mb_per_hour(samples) == 0


def test_a_short_run_has_no_growth() -> None:
    assert growth_mb_per_hour([(float(second), 1e6 * second) for second in range(120)]) is None

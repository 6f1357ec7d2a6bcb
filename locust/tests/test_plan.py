"""The predicted number of requests that a plan admits."""

from load.plan import Plan, admitted_at_most, predict

PRO = Plan("pro", 1_000, 1_000, left=1_000)


def test_requests_below_the_rate_are_all_admitted() -> None:
    assert predict(PRO, dict.fromkeys(range(600), 16)).over_plan == 0


def test_requests_above_the_rate_get_the_burst_and_then_the_rate() -> None:
    seconds = 180
    predicted = predict(PRO, dict.fromkeys(range(seconds), 83))
    assert abs(predicted.admitted - (1_000 + 1_000 * seconds / 60)) <= 2
    assert predicted.admitted <= admitted_at_most(PRO, seconds)
    assert predicted.over_plan == predicted.offered - predicted.admitted


def test_a_burst_that_was_used_before_the_run_is_not_available() -> None:
    fresh, used = (predict(Plan("pro", 1_000, 1_000, left), {0: 900}).admitted for left in (1_000, 100))
    assert (fresh, used) == (900, 116), "the 100 that are left, and 16 that refill within the second"


def test_the_burst_refills_within_a_minute_without_requests() -> None:
    assert predict(PRO, {0: 1_000, 60: 1_000}).over_plan <= 17
    assert predict(PRO, {0: 1_000, 30: 1_000}).over_plan > 480


def test_no_requests_have_an_empty_prediction() -> None:
    assert predict(PRO, {}).offered == 0

"""What plans let through."""

from load.plan import Plan, admitted_at_most, predict

PRO = Plan("pro", 1_000, 1_000, left=1_000)


def test_what_stays_below_the_rate_is_let_through_whole() -> None:
    assert predict(PRO, dict.fromkeys(range(600), 16)).over_plan == 0


def test_a_flood_gets_the_burst_and_then_the_rate() -> None:
    seconds = 180
    predicted = predict(PRO, dict.fromkeys(range(seconds), 83))
    assert abs(predicted.admitted - (1_000 + 1_000 * seconds / 60)) <= 2
    assert predicted.admitted <= admitted_at_most(PRO, seconds)
    assert predicted.over_plan == predicted.offered - predicted.admitted


def test_a_burst_that_was_used_up_before_is_not_there_again() -> None:
    fresh, used = (predict(Plan("pro", 1_000, 1_000, left), {0: 900}).admitted for left in (1_000, 100))
    assert (fresh, used) == (900, 116), "100 that are left, and 16 that become free within the second"


def test_the_burst_comes_back_in_a_quiet_minute() -> None:
    assert predict(PRO, {0: 1_000, 60: 1_000}).over_plan <= 17
    assert predict(PRO, {0: 1_000, 30: 1_000}).over_plan > 480


def test_of_nothing_nothing_is_predicted() -> None:
    assert predict(PRO, {}).offered == 0

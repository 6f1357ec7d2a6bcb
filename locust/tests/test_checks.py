"""Every check can fail, and a failed check says why."""

from load.checks import Check, conservation, errors, latency, memory, none_failed, plans
from load.conservation import MeteredUsage
from load.ledger import Ledger
from load.plan import Plan
from load.profiles import PROFILES, Thresholds
from load.service import Usage

THRESHOLDS = Thresholds(memory_mb_per_hour=10)


def ledger_of(accepted: int, failed: int = 0, took_ms: float = 5.0) -> Ledger:
    """A ledger of batches of ten events, with one duplicate in a thousand events."""
    ledger = Ledger()
    for number in range(accepted):
        ledger.sent(0, 10)
        ledger.accepted(0, 10, int(number % 100 == 0), sent_s=number / 100, took_ms=took_ms)
    for _ in range(failed):
        ledger.sent(0, 10)
        ledger.failed(0, 10, 503, "503: stream_unavailable")
    return ledger


def test_the_share_of_errors_is_judged_and_the_errors_are_listed() -> None:
    assert errors(ledger_of(2_000, failed=1).total(), THRESHOLDS).passed is True
    failed = errors(ledger_of(2_000, failed=3).total(), THRESHOLDS)
    assert failed.passed is False
    assert "3 x 503: stream_unavailable" in failed.says


def test_a_run_that_sent_nothing_fails() -> None:
    assert errors(Ledger().total(), THRESHOLDS).passed is False
    assert latency(Ledger().total(), THRESHOLDS, is_judged=True).passed is False


def test_latency_that_is_not_judged_is_not_reported_as_passed() -> None:
    assert latency(ledger_of(100, took_ms=99).total(), THRESHOLDS, is_judged=True).passed is True
    slow = ledger_of(100, took_ms=101).total()
    assert latency(slow, THRESHOLDS, is_judged=True).passed is False
    assert latency(slow, THRESHOLDS, is_judged=False).passed is None


def test_memory_is_judged_for_every_program_and_needs_samples() -> None:
    steady = [(float(second), 50e6) for second in range(1_200)]
    growing = [(float(second), 50e6 + second * 20e6 / 3600) for second in range(1_200)]
    passed = memory({"ingest-api": steady, "stream-worker": steady}, THRESHOLDS)
    failed = memory({"ingest-api": steady, "stream-worker": growing}, THRESHOLDS)
    unsampled = memory({}, THRESHOLDS)
    assert passed is not None and passed.passed is True
    assert failed is not None and failed.passed is False and "stream-worker +20.0 MB/h" in failed.says
    assert unsampled is not None and unsampled.passed is False
    assert memory({}, Thresholds()) is None, "a profile without a limit does not judge memory"


def test_the_number_of_429_answers_must_match_the_prediction() -> None:
    tiny = Plan("tiny", 60, 10, left=10)
    exact, lax, strict = Ledger(), Ledger(), Ledger()
    for number in range(600):
        # Ten requests per second for a minute. The plan admits a burst of ten, and then one per second.
        for ledger, is_admitted in ((exact, number < 10 or number % 10 == 0), (lax, True), (strict, False)):
            ledger.sent(0, 5)
            if is_admitted:
                ledger.accepted(0, 5, 0, sent_s=number / 10, took_ms=1)
            else:
                ledger.over_plan(0, 5, sent_s=number / 10)
    assert plans([tiny], exact).passed is True
    assert "600 accepted, tiny allows 72" in plans([tiny], lax).says
    assert plans([tiny], lax).passed is False
    assert plans([tiny], strict).passed is False


def test_one_missing_or_additional_event_fails_conservation() -> None:
    ledger = ledger_of(1_000)

    def check(stored: int, duplicates: int, dead: int = 0) -> Check:
        return conservation(ledger, MeteredUsage((Usage(stored, duplicates, dead),), 0.1))

    assert check(9_990, 10).passed is True
    assert check(9_989, 10, dead=1).passed is True, "a dead letter is not lost"
    assert "project 1: 1 of 10000 missing" in check(9_989, 10).says
    assert check(9_989, 10).passed is False
    assert check(9_991, 10).passed is False
    assert check(9_991, 9).passed is False, "a duplicate was stored as a new event"


def test_an_unanswered_batch_may_be_stored_or_not() -> None:
    ledger = ledger_of(100, failed=1)
    for stored, passed in ((999, True), (1_009, True), (1_010, False), (998, False)):
        assert conservation(ledger, MeteredUsage((Usage(stored, 1, 0),), 0.1)).passed is passed


def test_a_failed_check_fails_the_run_and_a_check_that_was_not_made_does_not() -> None:
    assert none_failed([Check("a", True, ""), Check("b", None, "")]) is True
    assert none_failed([Check("a", True, ""), Check("b", False, "")]) is False


def test_the_documented_profiles_exist_with_their_thresholds() -> None:
    names = "smoke load-50-users load-100-users sustained-10m realistic-1000-users stress spike soak".split()
    assert list(PROFILES) == names
    assert PROFILES["sustained-10m"].seconds == 600
    assert [stage.users for stage in PROFILES["spike"].stages] == [10, 200, 10]
    assert PROFILES["soak"].thresholds == Thresholds(100, 0.1, memory_mb_per_hour=10)
    assert PROFILES["soak"].with_duration(60).seconds == 60

"""The verdict: every check can fail, and then says why."""

from load.books import Settled
from load.checks import Check, conservation, errors, latency, memory, plans, verdict
from load.ledger import Ledger
from load.plan import Plan
from load.profiles import PROFILES, Thresholds
from load.service import Usage

THRESHOLDS = Thresholds(memory_mb_per_hour=10)


def ledger_of(accepted: int, failed: int = 0, took_ms: float = 5.0) -> Ledger:
    """Batches of ten events, one in a thousand events a duplicate."""
    ledger = Ledger()
    for number in range(accepted):
        ledger.sent(0, 10)
        ledger.accepted(0, 10, int(number % 100 == 0), sent_s=number / 100, took_ms=took_ms)
    for _ in range(failed):
        ledger.sent(0, 10)
        ledger.failed(0, 10, 503, "503: stream_unavailable")
    return ledger


def test_errors_are_judged_by_their_share_and_named() -> None:
    assert errors(ledger_of(2_000, failed=1).total(), THRESHOLDS).passed is True
    broken = errors(ledger_of(2_000, failed=3).total(), THRESHOLDS)
    assert broken.passed is False
    assert "3 x 503: stream_unavailable" in broken.says


def test_a_load_that_sent_nothing_has_not_passed() -> None:
    assert errors(Ledger().total(), THRESHOLDS).passed is False
    assert latency(Ledger().total(), THRESHOLDS, is_judged=True).passed is False


def test_latency_is_judged_unless_told_not_to_and_then_it_is_not_called_passed() -> None:
    assert latency(ledger_of(100, took_ms=99).total(), THRESHOLDS, is_judged=True).passed is True
    slow = ledger_of(100, took_ms=101).total()
    assert latency(slow, THRESHOLDS, is_judged=True).passed is False
    assert latency(slow, THRESHOLDS, is_judged=False).passed is None


def test_memory_is_judged_for_every_program_and_must_have_been_seen() -> None:
    steady = [(float(second), 50e6) for second in range(1_200)]
    growing = [(float(second), 50e6 + second * 20e6 / 3600) for second in range(1_200)]
    passed = memory({"ingest-api": steady, "stream-worker": steady}, THRESHOLDS)
    failed = memory({"ingest-api": steady, "stream-worker": growing}, THRESHOLDS)
    unseen = memory({}, THRESHOLDS)
    assert passed is not None and passed.passed is True
    assert failed is not None and failed.passed is False and "stream-worker +20.0 MB/h" in failed.says
    assert unseen is not None and unseen.passed is False
    assert memory({}, Thresholds()) is None, "a profile that is too short to tell does not ask"


def test_429s_must_be_as_many_as_the_plan_predicts() -> None:
    tiny = Plan("tiny", 60, 10, left=10)
    honest, lax, strict = Ledger(), Ledger(), Ledger()
    for number in range(600):
        # Ten a second for a minute: ten at once and one a second may pass.
        for ledger, is_let_through in ((honest, number < 10 or number % 10 == 0), (lax, True), (strict, False)):
            ledger.sent(0, 5)
            if is_let_through:
                ledger.accepted(0, 5, 0, sent_s=number / 10, took_ms=1)
            else:
                ledger.over_plan(0, 5, sent_s=number / 10)
    assert plans([tiny], honest).passed is True
    assert "600 accepted, tiny allows 72" in plans([tiny], lax).says
    assert plans([tiny], lax).passed is False
    assert plans([tiny], strict).passed is False


def test_a_single_event_that_is_missing_or_too_many_fails_conservation() -> None:
    ledger = ledger_of(1_000)

    def judged(stored: int, duplicates: int, dead: int = 0) -> Check:
        return conservation(ledger, Settled((Usage(stored, duplicates, dead),), 0.1))

    assert judged(9_990, 10).passed is True
    assert judged(9_989, 10, dead=1).passed is True, "a dead letter is accounted for"
    assert "project 1: 1 of 10000 missing" in judged(9_989, 10).says
    assert judged(9_989, 10).passed is False
    assert judged(9_991, 10).passed is False
    assert judged(9_991, 9).passed is False, "a duplicate that was stored twice"


def test_batches_without_an_answer_leave_room_and_no_more_than_was_in_them() -> None:
    ledger = ledger_of(100, failed=1)
    for stored, passed in ((999, True), (1_009, True), (1_010, False), (998, False)):
        assert conservation(ledger, Settled((Usage(stored, 1, 0),), 0.1)).passed is passed


def test_one_failed_check_fails_the_verdict_and_one_not_made_does_not_pass_as_seen() -> None:
    assert verdict([Check("a", True, ""), Check("b", None, "")]) is True
    assert verdict([Check("a", True, ""), Check("b", False, "")]) is False


def test_every_named_profile_is_there_with_the_thresholds_that_were_promised() -> None:
    names = "smoke load-50-users load-100-users sustained-10m realistic-1000-users stress spike soak".split()
    assert list(PROFILES) == names
    assert PROFILES["sustained-10m"].seconds == 600
    assert [stage.users for stage in PROFILES["spike"].stages] == [10, 200, 10]
    assert PROFILES["soak"].thresholds == Thresholds(100, 0.1, memory_mb_per_hour=10)
    assert PROFILES["soak"].lasting(60).seconds == 60

"""The gate itself, against the real programs: it passes what is well, and fails what is not, with the reason.

Nothing here judges latency, except where it is meant to fail: the machine of a test is shared.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from load.operator import PROJECT, Operator, find_program
from load.stack import Stack, postgres_program

RUN = PROJECT / "locust" / "run"
SHORT = ("--minutes", "0.1", "--no-latency")
DEADLINE_S = 120.0


@dataclass(frozen=True)
class Ended:
    """A run of the command."""

    code: int
    says: str
    folder: Path

    @property
    def result(self) -> dict:
        """What it has found."""
        return json.loads((self.folder / "result.json").read_text())

    def check(self, name: str) -> dict:
        """One of its checks."""
        return next(check for check in self.result["checks"] if check["name"] == name)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A throw-away installation, which the test may spoil."""
    with Stack() as running:
        yield running


def run(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> Ended:
    """The command as people give it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    finished = subprocess.run(
        [str(RUN), *arguments, "--out", str(folder)],
        env=kept | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return Ended(finished.returncode, finished.stdout, folder)


def run_on(stack: Stack, folder: Path, *arguments: str) -> Ended:
    """Against an installation that is there, with projects made for the run."""
    return run(folder, *arguments, "--host", stack.host, variables=stack.variables)


def sql(stack: Stack, statement: str) -> str:
    """What the database says."""
    command = [postgres_program("psql"), stack.variables["DATABASE_URL"], "-XAtqc", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def when(is_so: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Does something as soon as something is so, beside the run."""

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not is_so():
            assert time.monotonic() < deadline, "what was waited for never came"
            time.sleep(0.05)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def has_events(stack: Stack) -> bool:
    """Whether the run has begun to store."""
    return int(sql(stack, "SELECT count(*) FROM events")) > 20


def test_the_smoke_profile_passes_with_one_command_and_leaves_everything_that_was_promised(tmp_path: Path) -> None:
    ended = run(tmp_path, "smoke", "--stack", "--no-latency")
    assert ended.code == 0, ended.says
    result = ended.result
    verdicts = {check["name"]: check["passed"] for check in result["checks"]}
    passed = dict.fromkeys(("locust", "errors", "plans", "conservation", "audit"), True)
    assert verdicts == passed | {"p95": None}, "everything was looked at, and latency is not called passed"
    assert result["requests"] > 20 and result["failures"] == 0 and result["over_plan"] == 0
    assert result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
    assert [project["plan"] for project in result["projects"]] == ["pro", *["enterprise"] * 5]
    assert set(result["memory"]) == {"ingest-api", "stream-worker"}
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# smoke: PASSED") and "429 predicted" in summary
    left = {file.name for file in tmp_path.iterdir()}
    pictures = {"latency.svg", "rate.svg", "memory.svg", "backlog.svg"}
    assert left >= {"locust_stats.csv", "locust_stats_history.csv", "samples.csv", "report.html"} | pictures


def test_a_broken_threshold_fails_the_run_by_its_name(stack: Stack, tmp_path: Path) -> None:
    ended = run_on(stack, tmp_path, "smoke", "--minutes", "0.1", "--p95-ms", "0.001")
    assert ended.code == 1, ended.says
    assert ended.check("p95")["passed"] is False
    assert "| p95 | **FAILED** |" in ended.says and "# smoke: FAILED" in ended.says


def test_one_lost_event_fails_the_run(stack: Stack, tmp_path: Path) -> None:
    one = "SELECT project_id, timestamp, event_id FROM events LIMIT 1"
    lose = f"DELETE FROM events WHERE (project_id, timestamp, event_id) IN ({one})"
    losing = when(lambda: has_events(stack), lambda: sql(stack, lose))
    ended = run_on(stack, tmp_path, "smoke", *SHORT)
    losing.join()
    assert ended.code == 1, ended.says
    assert ended.check("audit")["passed"] is False
    assert "1 missing" in ended.check("audit")["says"]


def test_events_that_are_never_stored_fail_the_run_by_its_own_ledger(stack: Stack, tmp_path: Path) -> None:
    worker = stack.processes["stream-worker"]
    stopping = when(lambda: has_events(stack), lambda: worker.send_signal(signal.SIGSTOP))
    try:
        ended = run_on(stack, tmp_path, "smoke", *SHORT, "--patience", "3")
    finally:
        stopping.join()
        worker.send_signal(signal.SIGCONT)
    assert ended.code == 1, ended.says
    assert ended.check("conservation")["passed"] is False
    assert "missing" in ended.check("conservation")["says"]


def test_a_stopped_api_fails_the_run(stack: Stack, tmp_path: Path) -> None:
    stopping = when(lambda: has_events(stack), stack.processes["ingest-api"].kill)
    ended = run_on(stack, tmp_path, "smoke", *SHORT)
    stopping.join()
    assert ended.code == 1, ended.says
    assert ended.check("errors")["passed"] is False
    assert "the service cannot be asked" in ended.check("conservation")["says"]


def test_429s_are_no_failures_and_as_many_as_the_plan_predicts(stack: Stack, tmp_path: Path) -> None:
    program = find_program("millrace", None)
    assert program is not None
    plan = ["plan", "set", "tiny", "--requests-per-minute", "60", "--burst", "3"]
    subprocess.run([str(program), *plan], env=stack.variables, check=True, capture_output=True)
    key = Operator(program, stack.variables).create_project("crowded", "tiny")
    ended = run(tmp_path, "smoke", *SHORT, "--host", stack.host, variables=stack.variables | {"MILLRACE_KEYS": key})
    assert ended.code == 0, ended.says
    assert ended.result["over_plan"] > 0, "ten visitors are more than one request a second"
    assert ended.result["failures"] == 0
    assert ended.check("plans")["passed"] is True


def test_several_processes_of_locust_keep_one_ledger(stack: Stack, tmp_path: Path) -> None:
    ended = run_on(stack, tmp_path, "smoke", *SHORT, "--processes", "2")
    assert ended.code == 0, ended.says
    assert ended.result["events"] > 0
    assert ended.check("conservation")["passed"] is True


def test_whoever_has_no_key_is_told_what_to_set(tmp_path: Path) -> None:
    ended = run(tmp_path, "smoke", "--host", "http://127.0.0.1:9")
    assert ended.code == 2
    assert "MILLRACE_KEYS" in ended.says


def test_a_service_that_is_not_there_is_no_pass(tmp_path: Path) -> None:
    ended = run(tmp_path, "smoke", "--host", "http://127.0.0.1:9", variables={"MILLRACE_KEYS": "mk_none"})
    assert ended.code == 2
    assert "127.0.0.1:9" in ended.says

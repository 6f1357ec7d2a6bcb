"""`locust/run` against the real programs: a healthy run passes, and a broken run fails with the reason.

Only the test in which it must fail judges latency, because other programs use the machine during tests.
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

from load.millrace_cli import ROOT, MillraceCli, find_program
from load.stack import Stack, postgres_program

RUN = ROOT / "locust" / "run"
SHORT = ("--minutes", "0.1", "--no-latency")
DEADLINE_S = 120.0


@dataclass(frozen=True)
class FinishedRun:
    """A finished run of the command."""

    code: int
    output: str
    folder: Path

    @property
    def result(self) -> dict:
        """The content of result.json."""
        return json.loads((self.folder / "result.json").read_text())

    def check(self, name: str) -> dict:
        """One check of the result."""
        return next(check for check in self.result["checks"] if check["name"] == name)


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A temporary installation, which the test may damage."""
    with Stack() as running:
        yield running


def run(folder: Path, *arguments: str, variables: Mapping[str, str] | None = None) -> FinishedRun:
    """Runs the command, with only the given variables."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    finished = subprocess.run(
        [str(RUN), *arguments, "--out", str(folder)],
        env=inherited | dict(variables or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    return FinishedRun(finished.returncode, finished.stdout, folder)


def run_on(stack: Stack, folder: Path, *arguments: str) -> FinishedRun:
    """Runs the command against a running installation, in which it creates projects."""
    return run(folder, *arguments, "--host", stack.host, variables=stack.variables)


def sql(stack: Stack, statement: str) -> str:
    """The output of one SQL statement."""
    command = [postgres_program("psql"), stack.variables["DATABASE_URL"], "-XAtqc", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def when(condition: Callable[[], bool], action: Callable[[], object]) -> threading.Thread:
    """Waits in a thread until the condition is true, then runs the action."""

    def wait() -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, "timed out waiting for the condition"
            time.sleep(0.05)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def has_events(stack: Stack) -> bool:
    """Whether the run has stored some events."""
    return int(sql(stack, "SELECT count(*) FROM events")) > 20


def test_the_smoke_profile_passes_and_writes_all_result_files(tmp_path: Path) -> None:
    finished = run(tmp_path, "smoke", "--stack", "--no-latency")
    assert finished.code == 0, finished.output
    result = finished.result
    outcomes = {check["name"]: check["passed"] for check in result["checks"]}
    passed = dict.fromkeys(("locust", "errors", "plans", "conservation", "audit"), True)
    assert outcomes == passed | {"p95": None}, "every check except latency is made and passes"
    assert result["requests"] > 20 and result["failures"] == 0 and result["over_plan"] == 0
    assert result["p50_ms"] <= result["p95_ms"] <= result["p99_ms"]
    assert [project["plan"] for project in result["projects"]] == ["pro", *["enterprise"] * 5]
    assert set(result["memory"]) == {"ingest-api", "stream-worker"}
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("# smoke: PASSED") and "429 predicted" in summary
    files = {file.name for file in tmp_path.iterdir()}
    plots = {"latency.svg", "rate.svg", "memory.svg", "backlog.svg"}
    assert files >= {"locust_stats.csv", "locust_stats_history.csv", "samples.csv", "report.html"} | plots


def test_an_exceeded_threshold_fails_the_run_and_is_named(stack: Stack, tmp_path: Path) -> None:
    finished = run_on(stack, tmp_path, "smoke", "--minutes", "0.1", "--p95-ms", "0.001")
    assert finished.code == 1, finished.output
    assert finished.check("p95")["passed"] is False
    assert "| p95 | **FAILED** |" in finished.output and "# smoke: FAILED" in finished.output


def test_one_lost_event_fails_the_run(stack: Stack, tmp_path: Path) -> None:
    one_event = "SELECT project_id, timestamp, event_id FROM events LIMIT 1"
    delete = f"DELETE FROM events WHERE (project_id, timestamp, event_id) IN ({one_event})"
    deleting = when(lambda: has_events(stack), lambda: sql(stack, delete))
    finished = run_on(stack, tmp_path, "smoke", *SHORT)
    deleting.join()
    assert finished.code == 1, finished.output
    assert finished.check("audit")["passed"] is False
    assert "1 missing" in finished.check("audit")["says"]


def test_a_stopped_worker_fails_conservation(stack: Stack, tmp_path: Path) -> None:
    worker = stack.processes["stream-worker"]
    stopping = when(lambda: has_events(stack), lambda: worker.send_signal(signal.SIGSTOP))
    try:
        finished = run_on(stack, tmp_path, "smoke", *SHORT, "--patience", "3")
    finally:
        stopping.join()
        worker.send_signal(signal.SIGCONT)
    assert finished.code == 1, finished.output
    assert finished.check("conservation")["passed"] is False
    assert "missing" in finished.check("conservation")["says"]


def test_a_stopped_api_fails_the_run(stack: Stack, tmp_path: Path) -> None:
    stopping = when(lambda: has_events(stack), stack.processes["ingest-api"].kill)
    finished = run_on(stack, tmp_path, "smoke", *SHORT)
    stopping.join()
    assert finished.code == 1, finished.output
    assert finished.check("errors")["passed"] is False
    assert "usage cannot be read" in finished.check("conservation")["says"]


def test_429_answers_are_not_failures_and_match_the_prediction(stack: Stack, tmp_path: Path) -> None:
    program = find_program("millrace", None)
    assert program is not None
    plan = ["plan", "set", "tiny", "--requests-per-minute", "60", "--burst", "3"]
    subprocess.run([str(program), *plan], env=stack.variables, check=True, capture_output=True)
    key = MillraceCli(program, stack.variables).create_project("crowded", "tiny")
    finished = run(tmp_path, "smoke", *SHORT, "--host", stack.host, variables=stack.variables | {"MILLRACE_KEYS": key})
    assert finished.code == 0, finished.output
    assert finished.result["over_plan"] > 0, "ten visitors send more than one request per second"
    assert finished.result["failures"] == 0
    assert finished.check("plans")["passed"] is True


def test_several_locust_processes_share_one_ledger(stack: Stack, tmp_path: Path) -> None:
    finished = run_on(stack, tmp_path, "smoke", *SHORT, "--processes", "2")
    assert finished.code == 0, finished.output
    assert finished.result["events"] > 0
    assert finished.check("conservation")["passed"] is True


def test_a_run_without_keys_names_the_variable_to_set(tmp_path: Path) -> None:
    finished = run(tmp_path, "smoke", "--host", "http://127.0.0.1:9")
    assert finished.code == 2
    assert "MILLRACE_KEYS" in finished.output


def test_a_service_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    finished = run(tmp_path, "smoke", "--host", "http://127.0.0.1:9", variables={"MILLRACE_KEYS": "mk_none"})
    assert finished.code == 2
    assert "127.0.0.1:9" in finished.output

"""Formats the result of a run as Markdown."""

from load.checks import Check, none_failed
from load.result import RunResult


def markdown(result: RunResult) -> str:
    """The text of `summary.md`."""
    outcome = "PASSED" if none_failed(result.checks) else "FAILED"
    parts = [
        f"# {result.profile}: {outcome}",
        f"{result.says[:1].upper()}{result.says[1:]}. Up to {result.users} {result.user}s for {result.seconds:g} s, "
        f"started {result.began}. On {result.machine}.",
        checks_table(result.checks),
        metrics_table([result]),
        plans_table(result),
        "A 429 answer means that a plan is at its limit; it does not count as a failure. Latency is that of accepted batches, "
        "measured by Locust.",
    ]
    if result.memory:
        parts.append(memory_table(result))
    return "\n\n".join(parts) + "\n"


def checks_table(checks: list[Check]) -> str:
    """One row for each check."""
    words = {True: "passed", False: "**FAILED**", None: "not made"}
    return table(["check", "result", "details"], [[check.name, words[check.passed], check.says] for check in checks])


def metrics_table(results: list[RunResult]) -> str:
    """Requests, latency and events, one row for each run."""
    head = ["profile", "requests", "429", "failures", "p50 ms", "p95 ms", "p99 ms", "events/s", "events", "drained"]
    rows = [
        [
            result.profile,
            f"{result.requests:,}",
            f"{result.over_plan:,}",
            f"{result.failures:,}",
            *(format_ms(value) for value in (result.p50_ms, result.p95_ms, result.p99_ms)),
            f"{result.events_per_s:,.0f}",
            f"{result.events:,}",
            "never" if result.drained_s is None else f"in {result.drained_s:.1f} s",
        ]
        for result in results
    ]
    return table(head, rows)


def plans_table(result: RunResult) -> str:
    """Actual and predicted rates, one row for each project."""
    head = ["project", "plan", "accepted", "429", "429 predicted", "accepted/min", "predicted"]
    rows = [
        [
            str(number),
            f"{project.plan}, {project.requests_per_minute:,}/min",
            f"{project.accepted:,}",
            f"{project.over_plan:,}",
            f"{project.over_plan_predicted:,}",
            f"{project.accepted_per_minute:,.0f}",
            f"{project.accepted_per_minute_predicted:,.0f}",
        ]
        for number, project in enumerate(result.projects, start=1)
    ]
    return table(head, rows)


def memory_table(result: RunResult) -> str:
    """Resident memory, one row for each program."""
    rows = [
        [name, f"{first:.1f} MB", f"{last:.1f} MB", "" if growth is None else f"{growth:+.1f} MB/h"]
        for name, (first, last, growth) in result.memory.items()
    ]
    return table(["program", "resident memory at start", "at end", "growth after warm-up"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def format_ms(milliseconds: float | None) -> str:
    """One decimal below 100 ms, none above; "-" without a value."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:.0f}"

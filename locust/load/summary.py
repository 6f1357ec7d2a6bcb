"""A run, told in Markdown."""

from load.checks import Check, verdict
from load.result import Result


def markdown(result: Result) -> str:
    """The whole of summary.md."""
    passed = "PASSED" if verdict(result.checks) else "FAILED"
    parts = [
        f"# {result.profile}: {passed}",
        f"{result.says.capitalize()}. Up to {result.users} {result.user}s, {result.seconds:g} s, began {result.began}. "
        f"On {result.machine}.",
        checks_table(result.checks),
        figures_table([result]),
        plans_table(result),
        "429 is the plan at work, and no failure. Latency is that of accepted batches, as Locust sees it.",
    ]
    if result.memory:
        parts.append(memory_table(result))
    return "\n\n".join(parts) + "\n"


def checks_table(checks: list[Check]) -> str:
    """What was judged."""
    words = {True: "passed", False: "**FAILED**", None: "not made"}
    return table(["check", "", "seen"], [[check.name, words[check.passed], check.says] for check in checks])


def figures_table(results: list[Result]) -> str:
    """Requests, latency and events."""
    head = ["profile", "requests", "429", "failures", "p50 ms", "p95 ms", "p99 ms", "events/s", "events", "drained"]
    rows = [
        [
            result.profile,
            f"{result.requests:,}",
            f"{result.over_plan:,}",
            f"{result.failures:,}",
            *(shown(value) for value in (result.p50_ms, result.p95_ms, result.p99_ms)),
            f"{result.events_per_s:,.0f}",
            f"{result.events:,}",
            "never" if result.drained_s is None else f"in {result.drained_s:.1f} s",
        ]
        for result in results
    ]
    return table(head, rows)


def plans_table(result: Result) -> str:
    """The rate seen, beside the one that the plan predicts."""
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


def memory_table(result: Result) -> str:
    """Resident memory of the programs."""
    rows = [
        [name, f"{first:.1f} MB", f"{last:.1f} MB", "" if growth is None else f"{growth:+.1f} MB/h"]
        for name, (first, last, growth) in result.memory.items()
    ]
    return table(["program", "resident at first", "at last", "growth after warming up"], rows)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def shown(milliseconds: float | None) -> str:
    """With the digits that mean something."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds:.1f}" if milliseconds < 100 else f"{milliseconds:.0f}"

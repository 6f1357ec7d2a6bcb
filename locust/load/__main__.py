"""`locust/run`: loads as a profile says, and ends with 0 when nothing was lost and every threshold held.

1 when a check failed, 2 when it could not begin.
"""

import argparse
import contextlib
import os
import sys
import time
from pathlib import Path

from load import books, checks, generator, plots, summary
from load.operator import PROJECT, Operator, create_projects, find_operator
from load.profiles import PROFILES, Profile
from load.result import Result
from load.service import Period, Project, Unanswered
from load.stack import CannotStart, Stack
from load.watch import Watch, write_csv

FAILED, CANNOT = 1, 2

EPILOG = """
Keys come from MILLRACE_KEYS, separated by commas: one pro project and five enterprise ones are what the profiles are made
for, and nobody else may use them meanwhile. Without it, projects are made with `millrace`, when REDIS_URL and DATABASE_URL name
the installation; with both, it is audited at the end, too.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    listed = "\n".join(f"  {profile.name:22}{profile.says}" for profile in PROFILES.values())
    parser = argparse.ArgumentParser(
        prog="locust/run",
        description=f"Realistic load, and a verdict.\n\nprofiles:\n{listed}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("profile", choices=list(PROFILES), metavar="PROFILE")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--host", help="where ingest-api listens, such as http://127.0.0.1:8080")
    where.add_argument("--stack", action="store_true", help="start a throw-away Redis, PostgreSQL and our programs")
    parser.add_argument("--programs", type=Path, help="folder of our programs (the newest build of this project)")
    parser.add_argument(
        "--metrics", action="append", default=[], metavar="NAME=URL", help="watch the memory of a program by its metrics"
    )
    parser.add_argument("--minutes", type=float, help="load for so long instead")
    parser.add_argument("--processes", type=int, default=1, help="of Locust, for loads that one core cannot make")
    parser.add_argument("--no-latency", action="store_true", help="do not judge p95, as on a machine others use as well")
    parser.add_argument("--p95-ms", type=float, help="judge p95 by this instead")
    parser.add_argument(
        "--patience", type=float, default=30.0, metavar="SECONDS", help="without anything stored, until it counts as lost (30)"
    )
    parser.add_argument("--out", type=Path, help="folder of the results (target/load/PROFILE-TIME)")
    options = parser.parse_args(arguments)
    if options.processes < 1 or (options.minutes is not None and options.minutes <= 0):
        parser.error("--processes and --minutes must be above zero")
    if any("=http" not in metrics for metrics in options.metrics):
        parser.error("--metrics is NAME=URL, such as ingest-api=http://127.0.0.1:9100/metrics")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs, tells, and returns the exit code."""
    options = parse(arguments)
    profile = PROFILES[options.profile]
    if options.minutes is not None:
        profile = profile.lasting(options.minutes * 60)
    if options.p95_ms is not None:
        profile = profile.held_to(p95_ms=options.p95_ms)
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = options.out or PROJECT / "target" / "load" / f"{profile.name}-{stamp}"
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = run(profile, options, folder, stamp)
    except (CannotStart, Unanswered) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return CANNOT
    text = summary.markdown(result)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    result.write(folder / "result.json")
    print(f"{text}\nCSV, HTML and plots: {folder}")
    return 0 if checks.verdict(result.checks) else FAILED


def run(profile: Profile, options: argparse.Namespace, folder: Path, stamp: str) -> Result:
    """The whole course of a run, on what is there or what is started for it."""
    with contextlib.ExitStack() as ends:
        host, variables, processes = options.host, dict(os.environ), {}
        metrics = dict(named.split("=", 1) for named in options.metrics)
        keys = [key.strip() for key in variables.get("MILLRACE_KEYS", "").split(",") if key.strip()]
        if options.stack:
            print("starting Redis, PostgreSQL and the programs", flush=True)
            stack = ends.enter_context(Stack(options.programs))
            host, variables, metrics, keys = stack.host, stack.variables, stack.metrics, []
            processes = {name: child.pid for name, child in stack.processes.items()}
        operator = find_operator(options.programs, variables)
        if not keys:
            if operator is None:
                raise CannotStart("no keys: set MILLRACE_KEYS, or REDIS_URL and DATABASE_URL so that projects can be made")
            ends.callback(forget_keys, operator)
            keys = create_projects(operator, f"load-{profile.name}-{stamp}", profile.plans)
        watch = Watch(metrics, processes)
        return load_and_judge(profile, options, folder, Installation(host, keys, operator, watch))


class Installation:
    """What is loaded, and who can look into it."""

    def __init__(self, host: str, keys: list[str], operator: Operator | None, watch: Watch) -> None:
        self.host, self.keys, self.operator, self.watch = host, keys, operator, watch
        self.projects = [Project(host, key) for key in keys]


def load_and_judge(profile: Profile, options: argparse.Namespace, folder: Path, target: Installation) -> Result:
    """Loads, waits until everything has arrived, and asks all questions."""
    period = Period()
    limits = [project.limits_when_known() for project in target.projects]
    before = books.read(target.projects, period)
    result = Result.of(profile, options.processes)
    print(f"{profile.name}: {profile.seconds:g} s against {target.host}, with {len(limits)} projects", flush=True)
    with target.watch as watch:
        ledger, ran = generator.run(profile, target.host, target.keys, folder, options.processes)
    write_csv(watch.samples, folder / "samples.csv")
    result.take_ledger(ledger, limits)
    result.take_samples(watch.samples)
    total = ledger.total()
    result.checks = [
        ran,
        checks.errors(total, profile.thresholds),
        checks.latency(total, profile.thresholds, not options.no_latency),
        checks.plans(limits, ledger),
    ]
    grown = checks.memory(watch.samples.memory, profile.thresholds)
    result.checks += [grown] if grown else []
    result.checks += conservation(result, target, options.patience, period, before, ledger)
    if (folder / "ledger.json").is_file():
        plots.draw(folder)
    return result


def conservation(
    result: Result,
    target: Installation,
    patience_s: float,
    period: Period,
    before: list[books.Usage],
    ledger: books.Ledger,
) -> list[checks.Check]:
    """By the ledger of those who sent, and by the operator's audit."""
    try:
        settled = books.wait_until_settled(target.projects, period, before, ledger, patience_s)
        result.drained_s = settled.drained_s
        found = checks.conservation(ledger, settled)
    except Unanswered as problem:
        found = checks.Check("conservation", False, f"the service cannot be asked: {problem}")
    if target.operator is None:
        return [found, checks.Check("audit", None, "REDIS_URL and DATABASE_URL, or the command millrace, are not here")]
    holds, says = target.operator.audit()
    return [found, checks.Check("audit", holds, says)]


def forget_keys(operator: Operator) -> None:
    """A throw-away installation may be gone already, and the verdict stands without."""
    try:
        operator.revoke_keys()
    except Unanswered as problem:
        print(f"keys of the run could not be revoked: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

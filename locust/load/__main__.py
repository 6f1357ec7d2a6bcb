"""`locust/run`: runs one load profile and judges the result.

Exit code 0: no check failed. 1: a check failed. 2: the run could not start.
"""

import argparse
import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from load import checks, conservation, generator, plots, summary
from load.ledger import Ledger
from load.millrace_cli import ROOT, MillraceCli, create_projects, find_millrace_cli
from load.monitor import Monitor, write_csv
from load.profiles import PROFILES, Profile
from load.result import RunResult
from load.service import ProjectClient, ServiceError, Usage, UsagePeriod
from load.stack import Stack, StartError

EXIT_FAILED, EXIT_CANNOT_START = 1, 2

EPILOG = """
MILLRACE_KEYS holds the API keys, separated by commas. Most profiles expect one project on plan pro and five on plan enterprise.
No other client may use these keys during a run. Without MILLRACE_KEYS, projects are created with the `millrace` command, which
needs REDIS_URL and DATABASE_URL. With both URLs, the run ends with `millrace audit`.

exit codes: 0 no check failed, 1 a check failed, 2 the run could not start
"""


@dataclass(frozen=True)
class Target:
    """The installation under load."""

    host: str
    keys: list[str]
    # None when REDIS_URL, DATABASE_URL or the command `millrace` is missing.
    cli: MillraceCli | None
    monitor: Monitor


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Parses the command line; exits with 2 on wrong usage."""
    listed = "\n".join(f"  {profile.name:22}{profile.description}" for profile in PROFILES.values())
    parser = argparse.ArgumentParser(
        prog="locust/run",
        description=f"Load a Millrace installation and check the result.\n\nprofiles:\n{listed}",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("profile", choices=list(PROFILES), metavar="PROFILE")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--host", help="address of ingest-api, such as http://127.0.0.1:8080")
    where.add_argument("--stack", action="store_true", help="start a temporary Redis, PostgreSQL, ingest-api and stream-worker")
    parser.add_argument("--programs", type=Path, help="folder of the Millrace programs (default: newest build in target/)")
    parser.add_argument(
        "--metrics", action="append", default=[], metavar="NAME=URL", help="sample the memory of a program from its metrics"
    )
    parser.add_argument("--minutes", type=float, help="change the duration of the load")
    parser.add_argument("--processes", type=int, default=1, help="number of Locust processes (default: 1)")
    parser.add_argument("--no-latency", action="store_true", help="report p95 without judging it, for a shared machine")
    parser.add_argument("--p95-ms", type=float, help="change the p95 threshold, in milliseconds")
    parser.add_argument(
        "--patience",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time without a newly stored event after which missing events count as lost (default: 30)",
    )
    parser.add_argument("--out", type=Path, help="folder of the results (default: target/load/PROFILE-TIME)")
    options = parser.parse_args(arguments)
    if options.processes < 1 or (options.minutes is not None and options.minutes <= 0):
        parser.error("--processes and --minutes must be greater than zero")
    if any("=http" not in metrics for metrics in options.metrics):
        parser.error("--metrics must be NAME=URL, such as ingest-api=http://127.0.0.1:9100/metrics")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Runs the profile, writes the results and returns the exit code."""
    options = parse_arguments(arguments)
    profile = PROFILES[options.profile]
    if options.minutes is not None:
        profile = profile.with_duration(options.minutes * 60)
    if options.p95_ms is not None:
        profile = profile.with_p95_threshold(options.p95_ms)
    started_at = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    folder = options.out or ROOT / "target" / "load" / f"{profile.name}-{started_at}"
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = run(profile, options, folder, started_at)
    except (StartError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CANNOT_START
    text = summary.markdown(result)
    (folder / "summary.md").write_text(text, encoding="utf-8")
    result.write(folder / "result.json")
    print(f"{text}\nresults (CSV, HTML, plots): {folder}")
    return 0 if checks.none_failed(result.checks) else EXIT_FAILED


def run(profile: Profile, options: argparse.Namespace, folder: Path, started_at: str) -> RunResult:
    """Starts or finds the installation, creates projects if needed, and runs the load against them."""
    with contextlib.ExitStack() as cleanup:
        host, variables, pids = options.host, dict(os.environ), {}
        metrics = dict(named.split("=", 1) for named in options.metrics)
        keys = [key.strip() for key in variables.get("MILLRACE_KEYS", "").split(",") if key.strip()]
        if options.stack:
            print("starting Redis, PostgreSQL, ingest-api and stream-worker", flush=True)
            stack = cleanup.enter_context(Stack(options.programs))
            host, variables, metrics, keys = stack.host, stack.variables, stack.metrics, []
            pids = {name: child.pid for name, child in stack.processes.items()}
        cli = find_millrace_cli(options.programs, variables)
        if not keys:
            if cli is None:
                raise StartError("no API keys: set MILLRACE_KEYS, or set REDIS_URL and DATABASE_URL to create projects")
            cleanup.callback(revoke_keys, cli)
            keys = create_projects(cli, f"load-{profile.name}-{started_at}", profile.plans)
        return load_and_check(profile, options, folder, Target(host, keys, cli, Monitor(metrics, pids)))


def load_and_check(profile: Profile, options: argparse.Namespace, folder: Path, target: Target) -> RunResult:
    """Runs the load, waits until the accepted events are stored, and makes all checks."""
    period = UsagePeriod()
    projects = [ProjectClient(target.host, key) for key in target.keys]
    plans = [project.wait_for_plan() for project in projects]
    usage_before = conservation.read_usage(projects, period)
    result = RunResult.start(profile, options.processes)
    print(f"{profile.name}: {profile.seconds:g} s against {target.host}, {len(plans)} projects", flush=True)
    with target.monitor as monitor:
        ledger, locust_check = generator.run(profile, target.host, target.keys, folder, options.processes)
    write_csv(monitor.samples, folder / "samples.csv")
    result.add_ledger(ledger, plans)
    result.add_samples(monitor.samples)
    total = ledger.total()
    result.checks = [
        locust_check,
        checks.errors(total, profile.thresholds),
        checks.latency(total, profile.thresholds, is_judged=not options.no_latency),
        checks.plans(plans, ledger),
    ]
    memory_check = checks.memory(monitor.samples.memory, profile.thresholds)
    result.checks += [memory_check] if memory_check else []
    result.checks.append(check_conservation(result, projects, options.patience, period, usage_before, ledger))
    result.checks.append(check_audit(target.cli))
    if (folder / "ledger.json").is_file():
        plots.draw(folder)
    return result


def check_conservation(
    result: RunResult,
    projects: list[ProjectClient],
    patience_s: float,
    period: UsagePeriod,
    usage_before: list[Usage],
    ledger: Ledger,
) -> checks.Check:
    """Compares the ledger of the load generator with the usage that the service metered."""
    try:
        metered = conservation.wait_until_metered(projects, period, usage_before, ledger, patience_s)
    except ServiceError as error:
        return checks.Check("conservation", False, f"usage cannot be read: {error}")
    result.drained_s = metered.drained_s
    return checks.conservation(ledger, metered)


def check_audit(cli: MillraceCli | None) -> checks.Check:
    """Runs `millrace audit` where the command and the servers are known."""
    if cli is None:
        return checks.Check("audit", None, "needs REDIS_URL, DATABASE_URL and the command millrace")
    has_passed, output = cli.audit()
    return checks.Check("audit", has_passed, output)


def revoke_keys(cli: MillraceCli) -> None:
    """Revokes the keys of the run. A failure is only a warning: it must not change the exit code."""
    try:
        cli.revoke_keys()
    except ServiceError as error:
        print(f"warning: cannot revoke the keys of this run: {error}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

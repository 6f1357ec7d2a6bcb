"""Starts Locust, which sends, and brings back what it has written down."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from load.checks import Check
from load.ledger import Ledger
from load.profiles import Profile
from load.stack import free_port

LOCUSTFILE = Path(__file__).resolve().parents[1] / "locustfile.py"
# For requests that are under way when the load ends; longer than a request may take.
STOP_TIMEOUT_S = 45
# Beyond the load and its end, for starting and writing reports.
GRACE_S = 120


def run(profile: Profile, host: str, keys: Sequence[str], folder: Path, processes: int) -> tuple[Ledger, Check]:
    """Loads, and returns the ledger. CSV and HTML files are left in the folder."""
    file = folder / "ledger.json"
    variables = os.environ | {
        "MILLRACE_KEYS": ",".join(keys),
        "LOAD_STAGES": json.dumps([dataclasses.asdict(stage) for stage in profile.stages]),
        "LOAD_LEDGER": str(file),
    }
    log = folder / "locust.log"
    with log.open("w") as output:
        child = subprocess.Popen(
            _command(profile, host, folder, processes),
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            code = child.wait(timeout=profile.seconds + STOP_TIMEOUT_S + GRACE_S)
        except subprocess.TimeoutExpired:
            code = "no end of it"
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    ledger = Ledger.from_json(json.loads(file.read_text())) if file.is_file() else Ledger()
    if code != 0 or not file.is_file():
        last = "; ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        return ledger, Check("locust", False, f"locust ended with {code}: {last}")
    return ledger, Check("locust", True, f"ran for {profile.seconds:g} s in {processes} process(es)")


def _command(profile: Profile, host: str, folder: Path, processes: int) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), profile.user, "--headless", "--host", host]
    command += ["--csv", str(folder / "locust"), "--csv-full-history", "--html", str(folder / "report.html")]
    # Failures are judged by us, against a threshold.
    command += ["--stop-timeout", str(STOP_TIMEOUT_S), "--exit-code-on-error", "0", "--only-summary"]
    if processes > 1:
        # A port of its own for the processes to meet on, so that two runs can be beside each other.
        port = str(free_port())
        command += ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]
    return command

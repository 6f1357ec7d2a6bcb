"""Runs Locust in a child process and reads the ledger that it writes."""

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
# Time for requests in flight when the load ends; longer than the timeout of a request.
STOP_TIMEOUT_S = 45
# Time to start Locust and to write its reports, in addition to the load itself.
GRACE_S = 120


def run(profile: Profile, host: str, keys: Sequence[str], folder: Path, processes: int) -> tuple[Ledger, Check]:
    """Runs the load and returns its ledger. Locust writes its CSV and HTML files into `folder`."""
    file = folder / "ledger.json"
    variables = os.environ | {
        "MILLRACE_KEYS": ",".join(keys),
        "LOAD_STAGES": json.dumps([dataclasses.asdict(stage) for stage in profile.stages]),
        "LOAD_LEDGER": str(file),
    }
    timeout_s = profile.seconds + STOP_TIMEOUT_S + GRACE_S
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
            outcome = f"exited with {child.wait(timeout=timeout_s)}"
        except subprocess.TimeoutExpired:
            outcome = f"did not end within {timeout_s:g} s"
        finally:
            if child.poll() is None:
                child.terminate()
                child.wait()
    ledger = Ledger.from_json(json.loads(file.read_text())) if file.is_file() else Ledger()
    if outcome != "exited with 0" or not file.is_file():
        last_lines = "; ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
        return ledger, Check("locust", False, f"locust {outcome}: {last_lines}")
    return ledger, Check("locust", True, f"ran for {profile.seconds:g} s in {processes} process(es)")


def _command(profile: Profile, host: str, folder: Path, processes: int) -> list[str]:
    command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), profile.user, "--headless", "--host", host]
    command += ["--csv", str(folder / "locust"), "--csv-full-history", "--html", str(folder / "report.html")]
    # The check `errors` judges failures against a threshold, so Locust must not fail because of a single one.
    command += ["--stop-timeout", str(STOP_TIMEOUT_S), "--exit-code-on-error", "0", "--only-summary"]
    if processes > 1:
        # A separate port for the master, so that two runs on one machine do not collide.
        port = str(free_port())
        command += ["--processes", str(processes), "--master-bind-port", port, "--master-port", port]
    return command

"""The programs work with the command and the variables of their pods. Only addresses and folders differ."""

import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from load.millrace_cli import find_program
from load.stack import KILL_WITH_PARENT, Stack, free_port, responds_ok, wait_until

import checks
from manifests import OVERLAYS, Manifest, environment, find, overlay

SERVERS = "/etc/millrace/servers"
# The listener of each probed port, by the words before its address in the log.
LISTENERS = {"http": "listening on", "metrics": "metrics on"}


@pytest.fixture(scope="module")
def manifests() -> list[Manifest]:
    """The overlay that needs nothing outside the cluster."""
    return overlay("demo")


@pytest.fixture(scope="module")
def stack(manifests: list[Manifest]) -> Iterator[Stack]:
    """An installation whose Redis has the arguments of the overlay's Redis."""
    (container,) = find(manifests, "StatefulSet", "redis")["spec"]["template"]["spec"]["containers"]
    folder, data, *arguments = container["args"]
    assert (folder, data) == ("--dir", "/data")
    with Stack(redis=arguments) as running:
        yield running


class Pod:
    """The container of a workload as a process."""

    def __init__(self, manifests: list[Manifest], kind: str, name: str, stack: Stack, folder: Path) -> None:
        (self.container,) = find(manifests, kind, name)["spec"]["template"]["spec"]["containers"]
        self.log = folder / f"{name}-{free_port()}.log"
        for file, variable in (("redis-url", "REDIS_URL"), ("database-url", "DATABASE_URL")):
            # As an editor leaves it, with an end of line.
            (folder / file).write_text(stack.variables[variable] + "\n")
        variables = {name: self._replaced(value, folder) for name, value in environment(manifests, self.container).items()}
        program, *command = [*self.container["command"], *self.container.get("args", [])]
        path = find_program(program, None)
        assert path is not None, f"{program} is not built"
        with self.log.open("w") as output:
            command = [*KILL_WITH_PARENT, str(path), *command]
            self.child = subprocess.Popen(
                command, env=variables | {"PATH": stack.variables["PATH"]}, stdout=output, stderr=output
            )

    @staticmethod
    def _replaced(value: str, folder: Path) -> str:
        """A free port on loopback replaces the port of the container, and a folder of the test its Secret."""
        return re.sub(r"^0\.0\.0\.0:\d+$", "127.0.0.1:0", value).replace(SERVERS, str(folder))

    def url(self, probe: str) -> str:
        """Where a probe asks."""
        get = self.container[probe]["httpGet"]
        pattern = re.compile(rf"{LISTENERS[get['port']]} (http://[0-9.:]+)")

        def is_logged() -> bool:
            assert self.child.poll() is None, self.log.read_text()
            return pattern.search(self.log.read_text()) is not None

        wait_until(f"the address in {self.log.name}", is_logged)
        return pattern.search(self.log.read_text()).group(1) + get["path"]

    def kill(self) -> None:
        """Kills the program and waits for its end."""
        self.child.kill()
        self.child.wait()


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_command_exists(name: str) -> None:
    run = checks.of_millrace(overlay(name))
    assert {program for _, _, program in run} == set(checks.PROGRAMS)
    for _, container, program in run:
        command = [str(find_program(program, None)), *container["command"][1:], *container.get("args", []), "--help"]
        helped = subprocess.run(command, capture_output=True, text=True, check=False)
        assert helped.returncode == 0, helped.stderr


def test_the_job_migrates_and_may_run_again(manifests: list[Manifest], stack: Stack, tmp_path: Path) -> None:
    jobs = [Pod(manifests, "Job", "migrate", stack, tmp_path) for _ in range(2)]
    for job in jobs:
        assert job.child.wait(timeout=120) == 0, job.log.read_text()


@pytest.mark.parametrize("name", ["ingest-api", "stream-worker"])
def test_a_pod_becomes_ready_and_drains_when_it_is_stopped(
    name: str, manifests: list[Manifest], stack: Stack, tmp_path: Path
) -> None:
    pod = Pod(manifests, "Deployment", name, stack, tmp_path)
    try:
        ready = pod.url("readinessProbe")
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            url = pod.url(probe)
            wait_until(f"{name} to pass the {probe}", lambda url=url: responds_ok(url))
        pod.child.send_signal(signal.SIGTERM)
        if name == "ingest-api":
            wait_until("the pod to be taken out of the Service", lambda: status(ready) == 503)
            assert pod.child.poll() is None, "it still accepts connections"
            assert status(pod.url("livenessProbe")) == 200
        assert pod.child.wait(timeout=120) == 0, pod.log.read_text()
    finally:
        pod.kill()


def status(url: str) -> int:
    """The status of the answer."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

"""The real programs, servers and scripts, started as compose.yaml starts them; only addresses are those of this machine."""

import json
import re
import shlex
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from load.operator import find_program
from load.service import Project
from load.stack import MORTAL, Stack, answers, free_port, need, wait_until

from test_settings import PROJECT, services

EVENT = b'{"events":[{"name":"signed_up","subject":"user-1"}]}'
HTTP_OK = str(PROJECT / "compose" / "http-ok")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """An installation whose Redis has the very arguments of compose.yaml."""
    program, *arguments = shlex.split(services()["redis"]["command"])
    assert program == "redis-server"
    with Stack(redis=arguments) as running:
        yield running


def environment(name: str, stack: Stack) -> dict[str, str]:
    """What compose gives a service, with this machine's addresses."""
    given = {variable: str(value) for variable, value in services()[name]["environment"].items()}
    assert given["REDIS_URL"].startswith("redis://redis:6379/") and "@postgres:5432/millrace" in given["DATABASE_URL"]
    given |= {variable: stack.variables[variable] for variable in ("PATH", "REDIS_URL", "DATABASE_URL")}
    # Another port on loopback, in the place of the container's own.
    return {variable: re.sub(r"^0\.0\.0\.0:\d+$", "127.0.0.1:0", value) for variable, value in given.items()}


class Program:
    """One of our programs with a service's environment, until it is killed."""

    def __init__(self, name: str, stack: Stack, folder: Path) -> None:
        self.log = folder / f"{name}-{free_port()}.log"
        program = find_program(name, None)
        assert program is not None, f"{name} is not built"
        with self.log.open("w") as output:
            self.child = subprocess.Popen([*MORTAL, str(program)], env=environment(name, stack), stdout=output, stderr=output)

    def address(self, words: str) -> str:
        """Where it listens, which it says in JSON here."""
        pattern = re.compile(rf"{words} http://([0-9.:]+)")

        def found() -> bool:
            assert self.child.poll() is None, self.log.read_text()
            return pattern.search(self.log.read_text()) is not None

        wait_until(f"{words} of {self.log.name}", found)
        return pattern.search(self.log.read_text()).group(1)

    def end(self) -> None:
        """Kills it."""
        self.child.kill()
        self.child.wait()


def is_healthy(port: str, path: str) -> bool:
    """What the container's own health check says."""
    return subprocess.run([HTTP_OK, port, path], check=False, capture_output=True).returncode == 0


def test_both_programs_run_and_are_healthy_with_what_compose_sets(stack: Stack, tmp_path: Path) -> None:
    for name, listener in (("ingest-api", "listening on"), ("stream-worker", "metrics on")):
        _, command, _, path = services()[name]["healthcheck"]["test"]
        assert command == "http-ok"
        program = Program(name, stack, tmp_path)
        try:
            port = program.address(listener).rsplit(":", 1)[1]
            wait_until(f"{name} to be healthy", partial(is_healthy, port, path))
            assert not is_healthy(port, "/nothing")
            assert all(json.loads(line) for line in program.log.read_text().splitlines()), "LOG_FORMAT is json"
        finally:
            program.end()
        assert not is_healthy(port, path), "it is gone"


def test_redis_as_compose_starts_it_is_durable_enough_to_accept_events(stack: Stack) -> None:
    assert services()["ingest-api"]["environment"]["DURABILITY"] == "strict"
    assert answers(stack.host + "/readyz")


def test_the_welcome_ends_with_a_key_that_works_and_does_not_make_a_second_one(stack: Stack) -> None:
    program = find_program("millrace", None)
    assert program is not None
    given = environment("welcome", stack)
    given["PATH"] = f"{program.parent}:{given['PATH']}"

    def welcomed() -> str:
        return subprocess.run(
            [str(PROJECT / "compose" / "welcome")], env=given, check=True, capture_output=True, text=True
        ).stdout

    first = welcomed()
    key = re.search(r"Key +(mk_\S+)", first)
    assert key is not None, first
    assert Project(stack.host, key.group(1)).limits_when_known().name == "enterprise"
    assert f"http://127.0.0.1:{given['GRAFANA_PORT']}/d/millrace-overview" in first
    assert f"Page       http://127.0.0.1:{given['MILLRACE_PORT']}/#key=mk_" in first, "the demo shows the page"
    second = welcomed()
    assert "mk_" not in second and "millrace key create default" in second


def test_the_gateway_serves_through_any_replica_that_is_ready(stack: Stack, tmp_path: Path) -> None:
    replicas = [Program("ingest-api", stack, tmp_path) for _ in range(2)]
    addresses = [replica.address("listening on") for replica in replicas]
    port = free_port()
    servers = "\n".join(f"    server api{number} {address} init-addr last" for number, address in enumerate(addresses))
    config = (PROJECT / "compose" / "haproxy.cfg").read_text()
    config, found = re.subn(r"^ +server-template .*$", servers, config, flags=re.MULTILINE)
    assert found == 1
    # Whoever tests may have fewer files open than the container.
    config = config.replace("bind :8080", f"bind 127.0.0.1:{port}").replace("maxconn 20000", "maxconn 100")
    file = tmp_path / "haproxy.cfg"
    file.write_text(config)
    log = tmp_path / "haproxy.log"
    with log.open("w") as output:
        command = [*MORTAL, need("haproxy", "haproxy"), "-f", str(file)]
        gateway = subprocess.Popen(command, stdout=output, stderr=output)
    host = f"http://127.0.0.1:{port}"
    try:
        program = find_program("millrace", None)
        create = [str(program), "project", "create", "gateway", "--plan", "pro", "--json"]
        made = subprocess.run(create, env=stack.variables, check=True, capture_output=True, text=True)
        key = json.loads(made.stdout)["key"]
        wait_until("the gateway to be ready", lambda: answers(host + "/readyz"))
        for address in addresses:
            Project(f"http://{address}", key).limits_when_known()
        assert [posted(host, key) for _ in range(10)] == [202] * 10
        assert answers(host + "/"), "the demo's page is shown through the gateway"
        replicas[0].child.send_signal(signal.SIGTERM)
        replicas[0].child.wait()
        assert [posted(host, key) for _ in range(10)] == [202] * 10, "one replica is enough, and nobody notices"
    finally:
        gateway.kill()
        gateway.wait()
        for replica in replicas:
            replica.end()


def posted(host: str, key: str) -> int:
    """The status of an answer to one event."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(host + "/v1/events", data=EVENT, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code

"""The real programs, servers and scripts, started as compose.yaml starts them; only addresses are those of this machine."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from load.operator import find_program
from load.service import Project
from load.stack import Stack, answers, wait_until

from started import Program, environment
from written import PROJECT, services

HTTP_OK = str(PROJECT / "compose" / "http-ok")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """An installation whose Redis has the very arguments of compose.yaml."""
    program, *arguments = shlex.split(services()["redis"]["command"])
    assert program == "redis-server"
    with Stack(redis=arguments) as running:
        yield running


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

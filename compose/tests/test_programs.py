"""The programs, Redis and scripts work with the settings of compose.yaml. Only addresses are replaced."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from load.millrace_cli import find_program
from load.service import ProjectClient
from load.stack import Stack, responds_ok, wait_until

from compose_file import ROOT, services
from service_process import ServiceProcess, environment

HTTP_OK = str(ROOT / "compose" / "http-ok")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """An installation whose Redis is started with the arguments of compose.yaml."""
    program, *arguments = shlex.split(services()["redis"]["command"])
    assert program == "redis-server"
    with Stack(redis=arguments) as running:
        yield running


def is_healthy(port: str, path: str) -> bool:
    """Whether the health check of the container succeeds."""
    return subprocess.run([HTTP_OK, port, path], check=False, capture_output=True).returncode == 0


def test_both_programs_become_healthy_with_the_settings_of_compose(stack: Stack, tmp_path: Path) -> None:
    for name, listener in (("ingest-api", "listening on"), ("stream-worker", "metrics on")):
        _, command, _, path = services()[name]["healthcheck"]["test"]
        assert command == "http-ok"
        program = ServiceProcess(name, stack, tmp_path)
        try:
            port = program.address(listener).rsplit(":", 1)[1]
            wait_until(f"{name} to be healthy", partial(is_healthy, port, path))
            assert not is_healthy(port, "/nothing")
            assert all(json.loads(line) for line in program.log.read_text().splitlines()), "every log line is JSON"
        finally:
            program.kill()
        assert not is_healthy(port, path), "a stopped program is not healthy"


def test_the_redis_of_compose_is_durable_enough_to_accept_events(stack: Stack) -> None:
    assert services()["ingest-api"]["environment"]["DURABILITY"] == "strict"
    assert responds_ok(stack.host + "/readyz")


def test_the_welcome_prints_a_valid_key_and_creates_only_one(stack: Stack) -> None:
    program = find_program("millrace", None)
    assert program is not None
    variables = environment("welcome", stack)
    variables["PATH"] = f"{program.parent}:{variables['PATH']}"

    def welcome() -> str:
        return subprocess.run(
            [str(ROOT / "compose" / "welcome")], env=variables, check=True, capture_output=True, text=True
        ).stdout

    first = welcome()
    key = re.search(r"Key +(mk_\S+)", first)
    assert key is not None, first
    assert ProjectClient(stack.host, key.group(1)).wait_for_plan().name == "enterprise"
    assert f"http://127.0.0.1:{variables['GRAFANA_PORT']}/d/millrace-overview" in first
    assert f"Page       http://127.0.0.1:{variables['MILLRACE_PORT']}/#key=mk_" in first, "the demo links to the status page"
    web_key = re.search(r"Web key +(mk_\S+)", first)
    assert web_key is not None and web_key.group(1) != key.group(1), "web pages get a key that reads nothing"
    second = welcome()
    assert "mk_" not in second and "millrace key create default" in second

"""The gateway finds replicas of ingest-api by DNS and loses no request when one of them stops."""

import json
import re
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from dnslib import RR, A, DNSRecord
from dnslib.server import BaseResolver, DNSHandler, DNSServer
from load.millrace_cli import find_program
from load.service import ProjectClient
from load.stack import KILL_WITH_PARENT, Stack, free_port, require_program, responds_ok, wait_until

from compose_file import ROOT
from service_process import ServiceProcess

EVENT = b'{"events":[{"name":"signed_up","subject":"user-1"}]}'
# Loopback addresses, one for each replica.
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


class ApiResolver(BaseResolver):
    """A DNS resolver that only knows the addresses of ingest-api."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Answers with all addresses of ingest-api."""
        reply = request.reply()
        if str(request.q.qname) == "ingest-api.":
            for address in self.addresses:
                reply.add_answer(RR("ingest-api", rdata=A(address), ttl=1))
        return reply


@pytest.fixture
def dns() -> Iterator[tuple[ApiResolver, int]]:
    """A running DNS server: its resolver and its port."""
    resolver, port = ApiResolver(), free_port()
    server = DNSServer(resolver, address="127.0.0.1", port=port)
    server.start_thread()
    yield resolver, port
    server.stop()
    server.server.server_close()


@pytest.fixture
def stack() -> Iterator[Stack]:
    """The Redis and the PostgreSQL that the replicas use."""
    with Stack() as running:
        yield running


class Gateway:
    """HAProxy with compose/haproxy.cfg, in which only addresses and limits are replaced."""

    def __init__(self, folder: Path, dns_port: int, api_port: int) -> None:
        port = free_port()
        self.host = f"http://127.0.0.1:{port}"
        config = (ROOT / "compose" / "haproxy.cfg").read_text()
        replacements = {
            "127.0.0.11:53": f"127.0.0.1:{dns_port}",
            "bind :8080": f"bind 127.0.0.1:{port}",
            "ingest-api:8080": f"ingest-api:{api_port}",
            # The limit of open files may be lower here than in the container.
            "maxconn 20000": "maxconn 100",
        }
        for original, replacement in replacements.items():
            assert original in config
            config = config.replace(original, replacement)
        file = folder / "haproxy.cfg"
        file.write_text(config)
        with (folder / "haproxy.log").open("w") as output:
            command = [*KILL_WITH_PARENT, require_program("haproxy", "haproxy"), "-f", str(file)]
            self.child = subprocess.Popen(command, stdout=output, stderr=output)

    def kill(self) -> None:
        """Kills HAProxy and waits for its end."""
        self.child.kill()
        self.child.wait()


def test_replicas_start_and_stop_without_a_failed_request(stack: Stack, dns: tuple[ApiResolver, int], tmp_path: Path) -> None:
    resolver, dns_port = dns
    api_port = free_port()
    gateway = Gateway(tmp_path, dns_port, api_port)
    first = ServiceProcess("ingest-api", stack, tmp_path, f"{FIRST}:{api_port}")
    second = ServiceProcess("ingest-api", stack, tmp_path, f"{SECOND}:{api_port}")
    try:
        key = new_key(stack)
        for replica in (first, second):
            ProjectClient(f"http://{replica.address('listening on')}", key).wait_for_plan()
        assert not responds_ok(gateway.host + "/readyz"), "DNS has no addresses yet"
        resolver.addresses = [FIRST]
        wait_until("the gateway to find the first replica", lambda: responds_ok(gateway.host + "/readyz"))
        assert [post_event(gateway.host, key) for _ in range(10)] == [202] * 10
        assert responds_ok(gateway.host + "/"), "the gateway shows the status page of the demo"
        resolver.addresses = [FIRST, SECOND]
        wait_until("the gateway to find the second replica", lambda: receives_events(gateway.host, key, second))
        first.child.send_signal(signal.SIGTERM)
        statuses = []
        while first.child.poll() is None:
            statuses.append(post_event(gateway.host, key))
        statuses += [post_event(gateway.host, key) for _ in range(10)]
        assert set(statuses) == {202}
    finally:
        for process in (gateway, first, second):
            process.kill()


def receives_events(host: str, key: str, replica: ServiceProcess) -> bool:
    """Posts an event to the gateway and tells whether this replica has admitted any event."""
    metrics = f"http://{replica.address('metrics on')}/metrics"
    post_event(host, key)
    with urllib.request.urlopen(metrics, timeout=5) as answer:
        return re.search(r"^millrace_admitted_events_total [1-9]", answer.read().decode(), re.MULTILINE) is not None


def new_key(stack: Stack) -> str:
    """Creates a project and returns its key."""
    create = [str(find_program("millrace", None)), "project", "create", "gateway", "--plan", "enterprise", "--json"]
    created = subprocess.run(create, env=stack.variables, check=True, capture_output=True, text=True)
    return json.loads(created.stdout)["key"]


def post_event(host: str, key: str) -> int:
    """Posts one event and returns the status of the answer."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(host + "/v1/events", data=EVENT, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code

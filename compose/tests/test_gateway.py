"""The gateway, as replicas of ingest-api come and go: it finds them by name, as in the compose network."""

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
from load.operator import find_program
from load.service import Project
from load.stack import MORTAL, Stack, answers, free_port, need, wait_until

from started import Program
from written import PROJECT

EVENT = b'{"events":[{"name":"signed_up","subject":"user-1"}]}'
# All of them are this machine.
FIRST, SECOND = "127.0.0.2", "127.0.0.3"


class Names(BaseResolver):
    """The name server of a network in which only ingest-api has addresses."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        """Every address there is."""
        reply = request.reply()
        if str(request.q.qname) == "ingest-api.":
            for address in self.addresses:
                reply.add_answer(RR("ingest-api", rdata=A(address), ttl=1))
        return reply


@pytest.fixture
def names() -> Iterator[tuple[Names, int]]:
    """A name server, and its port."""
    resolver, port = Names(), free_port()
    server = DNSServer(resolver, address="127.0.0.1", port=port)
    server.start_thread()
    yield resolver, port
    server.stop()
    server.server.server_close()


@pytest.fixture
def stack() -> Iterator[Stack]:
    """What the replicas run on."""
    with Stack() as running:
        yield running


class Gateway:
    """HAProxy with our file, in which only ports are others."""

    def __init__(self, folder: Path, dns_port: int, api_port: int) -> None:
        port = free_port()
        self.host = f"http://127.0.0.1:{port}"
        config = (PROJECT / "compose" / "haproxy.cfg").read_text()
        changes = {
            "127.0.0.11:53": f"127.0.0.1:{dns_port}",
            "bind :8080": f"bind 127.0.0.1:{port}",
            "ingest-api:8080": f"ingest-api:{api_port}",
            # Whoever tests may have fewer files open than the container.
            "maxconn 20000": "maxconn 100",
        }
        for ours, here in changes.items():
            assert ours in config
            config = config.replace(ours, here)
        file = folder / "haproxy.cfg"
        file.write_text(config)
        with (folder / "haproxy.log").open("w") as output:
            command = [*MORTAL, need("haproxy", "haproxy"), "-f", str(file)]
            self.child = subprocess.Popen(command, stdout=output, stderr=output)

    def end(self) -> None:
        """Kills it."""
        self.child.kill()
        self.child.wait()


def test_replicas_come_and_go_and_no_client_notices(stack: Stack, names: tuple[Names, int], tmp_path: Path) -> None:
    resolver, dns_port = names
    api_port = free_port()
    gateway = Gateway(tmp_path, dns_port, api_port)
    first = Program("ingest-api", stack, tmp_path, f"{FIRST}:{api_port}")
    second = Program("ingest-api", stack, tmp_path, f"{SECOND}:{api_port}")
    try:
        key = new_key(stack)
        for replica in (first, second):
            Project(f"http://{replica.address('listening on')}", key).limits_when_known()
        assert not answers(gateway.host + "/readyz"), "nobody has a name yet"
        resolver.addresses = [FIRST]
        wait_until("the gateway to find the first replica", lambda: answers(gateway.host + "/readyz"))
        assert [posted(gateway.host, key) for _ in range(10)] == [202] * 10
        assert answers(gateway.host + "/"), "the demo's page is shown through the gateway"
        resolver.addresses = [FIRST, SECOND]
        wait_until("the gateway to find the second replica", lambda: takes_part(gateway.host, key, second))
        first.child.send_signal(signal.SIGTERM)
        seen = []
        while first.child.poll() is None:
            seen.append(posted(gateway.host, key))
        seen += [posted(gateway.host, key) for _ in range(10)]
        assert set(seen) == {202}
    finally:
        for process in (gateway, first, second):
            process.end()


def takes_part(host: str, key: str, replica: Program) -> bool:
    """Whether something posted at the gateway was answered by this replica."""
    metrics = f"http://{replica.address('metrics on')}/metrics"
    posted(host, key)
    with urllib.request.urlopen(metrics, timeout=5) as answer:
        return re.search(r"^millrace_admitted_events_total [1-9]", answer.read().decode(), re.MULTILINE) is not None


def new_key(stack: Stack) -> str:
    """The key of a new project."""
    create = [str(find_program("millrace", None)), "project", "create", "gateway", "--plan", "enterprise", "--json"]
    made = subprocess.run(create, env=stack.variables, check=True, capture_output=True, text=True)
    return json.loads(made.stdout)["key"]


def posted(host: str, key: str) -> int:
    """The status of an answer to one event."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(host + "/v1/events", data=EVENT, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        return refusal.code

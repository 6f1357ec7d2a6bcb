"""A throw-away installation: Redis, PostgreSQL and our programs, on free ports, in a folder that is removed.

Everything started here is killed by the kernel when this process dies, whatever it dies of.
"""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from load.operator import find_program

DEADLINE_S = 120.0
MORTAL = ("setpriv", "--pdeathsig", "KILL")
REDIS = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", "")
PROGRAMS = ("ingest-api", "stream-worker")


class CannotStart(Exception):
    """What is missing, and what to do about it."""


class Stack:
    """Running from `with` to its end."""

    def __init__(self, programs: Path | None = None, redis: Sequence[str] = REDIS) -> None:
        self._programs = programs
        self._redis = redis
        self._children: list[subprocess.Popen] = []
        self.variables: dict[str, str] = {}
        self.host = ""
        self.metrics: dict[str, str] = {}
        self.processes: dict[str, subprocess.Popen] = {}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="millrace-load-"))
        self.folder.chmod(0o755)
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # The programs before what they run on.
        for child in reversed(self._children):
            child.send_signal(signal.SIGINT)
            try:
                child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        redis_port, postgres_port = free_port(), free_port()
        self._start_redis(redis_port)
        self._start_postgres(postgres_port)
        kept = {name: os.environ[name] for name in ("PATH", "RUST_LOG") if name in os.environ}
        self.variables = kept | {
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{postgres_port}/postgres",
            "LISTEN_ADDR": "127.0.0.1:0",
            "METRICS_ADDR": "127.0.0.1:0",
        }
        subprocess.run([self._program("millrace"), "migrate"], env=self.variables, check=True, capture_output=True)
        for name in PROGRAMS:
            child, log = self._launch(name, [str(self._program(name))], self.variables)
            self.processes[name] = child
            self.metrics[name] = address_in(log, child, "metrics on") + "/metrics"
            if name == "ingest-api":
                self.host = address_in(log, child, "listening on")
        wait_until("ingest-api to be ready", lambda: answers(self.host + "/readyz"))

    def _start_redis(self, port: int) -> None:
        server = need("redis-server", "redis-server")
        data = self.folder / "redis"
        data.mkdir()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), *self._redis]
        child, log = self._launch("redis", [*MORTAL, *command])
        wait_until("Redis to start", lambda: "Ready to accept connections" in alive(child, log))

    def _start_postgres(self, port: int) -> None:
        folder, data = self.folder / "postgres", self.folder / "postgres" / "data"
        folder.mkdir()
        user = server_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        initdb, server = (as_user(user, postgres_program(name)) for name in ("initdb", "postgres"))
        make = [*initdb, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D", str(data)]
        made = subprocess.run(make, cwd="/", capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise CannotStart(f"initdb: {made.stderr}")
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        child, log = self._launch("postgresql", [*server, "-D", str(data), *options])
        ready = "database system is ready to accept connections"
        wait_until("PostgreSQL to start", lambda: ready in alive(child, log))

    def _program(self, name: str) -> Path:
        program = find_program(name, self._programs)
        if program is None:
            raise CannotStart(f"{name} is not built: cargo build --release -p millrace -p ingest-api -p stream-worker")
        return program

    def _launch(
        self, name: str, command: Sequence[str], variables: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen, Path]:
        log = self.folder / f"{name}.log"
        command = command if command[0] == MORTAL[0] else [*MORTAL, *command]
        with log.open("w") as output:
            child = subprocess.Popen(
                command,
                env=variables,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for us; they are stopped afterwards, in order.
                start_new_session=True,
            )
        self._children.append(child)
        return child, log


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def need(program: str, package: str) -> str:
    """Where a program is."""
    found = shutil.which(program)
    if found is None:
        raise CannotStart(f"{program} is missing; on Debian: apt-get install {package}")
    return found


def postgres_program(name: str) -> str:
    """A program of PostgreSQL; Debian keeps those of each version apart."""
    versions = Path("/usr/lib/postgresql")
    found = sorted(versions.glob(f"*/bin/{name}"), key=lambda file: int(file.parts[-3]))
    return str(found[-1]) if found else need(name, "postgresql")


def server_user() -> pwd.struct_passwd | None:
    """Whom root runs PostgreSQL as, which refuses to be run by root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise CannotStart("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`")


def as_user(user: pwd.struct_passwd | None, program: str) -> list[str]:
    """A command that runs as somebody, and dies with us."""
    if user is None:
        return [*MORTAL, program]
    # The inner setpriv asks to be killed with us after the user has changed, which would undo the request.
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *MORTAL, program]


def alive(child: subprocess.Popen, log: Path) -> str:
    """What it has written, as long as it runs."""
    text = log.read_text(errors="replace")
    if child.poll() is not None:
        raise CannotStart(f"{log.stem} ended ({child.returncode}):\n{text[-2000:]}")
    return text


def address_in(log: Path, child: subprocess.Popen, words: str) -> str:
    """The address a program says it has."""
    pattern = re.compile(rf"{words} (http://[0-9.:]+)")
    wait_until(f"{log.stem} to say its address", lambda: pattern.search(alive(child, log)) is not None)
    return pattern.search(log.read_text()).group(1)


def answers(url: str) -> bool:
    """Whether it answers well."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_until(what: str, is_so: Callable[[], bool]) -> None:
    """Looks until it is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise CannotStart(f"waited {DEADLINE_S:.0f} s for {what}")
        time.sleep(0.05)

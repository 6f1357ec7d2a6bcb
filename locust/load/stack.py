"""A temporary installation: Redis, PostgreSQL, ingest-api and stream-worker, on free ports.

Every process started here is killed by the kernel when this process dies, however it dies.
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

from load.millrace_cli import find_program

DEADLINE_S = 120.0
# Prefix of a command that the kernel kills when its parent dies.
KILL_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")
REDIS_ARGUMENTS = ("--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--save", "")
PROGRAMS = ("ingest-api", "stream-worker")
# The user id of the unprivileged user that Linux distributions create.
UNPRIVILEGED_UID = 65534


class StartError(Exception):
    """The run cannot start. The message says what to do."""


class Stack:
    """Starts with a `with` block and is stopped and removed at its end."""

    def __init__(self, programs: Path | None = None, redis: Sequence[str] = REDIS_ARGUMENTS) -> None:
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
        # In reverse order: the programs stop before the servers that they use.
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
        inherited = {name: os.environ[name] for name in ("PATH", "RUST_LOG") if name in os.environ}
        self.variables = inherited | {
            "REDIS_URL": f"redis://127.0.0.1:{redis_port}/0",
            "DATABASE_URL": f"postgres://postgres@127.0.0.1:{postgres_port}/postgres",
            "LISTEN_ADDR": "127.0.0.1:0",
            "METRICS_ADDR": "127.0.0.1:0",
        }
        subprocess.run([self._program("millrace"), "migrate"], env=self.variables, check=True, capture_output=True)
        for name in PROGRAMS:
            child, log = self._launch(name, [str(self._program(name))], self.variables)
            self.processes[name] = child
            self.metrics[name] = wait_for_address(log, child, "metrics on") + "/metrics"
            if name == "ingest-api":
                self.host = wait_for_address(log, child, "listening on")
        wait_until("ingest-api to be ready", lambda: responds_ok(self.host + "/readyz"))

    def _start_redis(self, port: int) -> None:
        server = require_program("redis-server", "redis-server")
        data = self.folder / "redis"
        data.mkdir()
        command = [server, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(data), *self._redis]
        child, log = self._launch("redis", [*KILL_WITH_PARENT, *command])
        wait_until("Redis to start", lambda: "Ready to accept connections" in log_while_running(child, log))

    def _start_postgres(self, port: int) -> None:
        folder, data = self.folder / "postgres", self.folder / "postgres" / "data"
        folder.mkdir()
        user = server_user()
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        initdb, server = (command_as_user(user, postgres_program(name)) for name in ("initdb", "postgres"))
        initialize = [*initdb, "--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync", "-D", str(data)]
        initialized = subprocess.run(initialize, cwd="/", capture_output=True, text=True, check=False)
        if initialized.returncode != 0:
            raise StartError(f"initdb failed: {initialized.stderr}")
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        child, log = self._launch("postgresql", [*server, "-D", str(data), *options])
        ready = "database system is ready to accept connections"
        wait_until("PostgreSQL to start", lambda: ready in log_while_running(child, log))

    def _program(self, name: str) -> Path:
        program = find_program(name, self._programs)
        if program is None:
            raise StartError(f"{name} is not built; run cargo build --release -p millrace -p ingest-api -p stream-worker")
        return program

    def _launch(
        self, name: str, command: Sequence[str], variables: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen, Path]:
        log = self.folder / f"{name}.log"
        command = command if command[0] == KILL_WITH_PARENT[0] else [*KILL_WITH_PARENT, *command]
        with log.open("w") as output:
            child = subprocess.Popen(
                command,
                env=variables,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C must reach only this process, which then stops the others in order.
                start_new_session=True,
            )
        self._children.append(child)
        return child, log


def free_port() -> int:
    """A port on loopback that no process listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def require_program(program: str, package: str) -> str:
    """The path of a program. `package` is its Debian package."""
    found = shutil.which(program)
    if found is None:
        raise StartError(f"{program} is not installed; on Debian, run apt-get install {package}")
    return found


def postgres_program(name: str) -> str:
    """The path of a PostgreSQL program. Debian installs each version into its own folder, outside PATH."""
    versions = Path("/usr/lib/postgresql")
    found = sorted(versions.glob(f"*/bin/{name}"), key=lambda file: int(file.parts[-3]))
    return str(found[-1]) if found else require_program(name, "postgresql")


def server_user() -> pwd.struct_passwd | None:
    """The user to run PostgreSQL as; None is the current user. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for find_user, user in ((pwd.getpwnam, "postgres"), (pwd.getpwuid, UNPRIVILEGED_UID)):
        try:
            return find_user(user)
        except KeyError:
            continue
    raise StartError("PostgreSQL refuses to run as root; create a user `postgres`, or run this as another user")


def command_as_user(user: pwd.struct_passwd | None, program: str) -> list[str]:
    """A command that runs a program as this user, and that the kernel kills when this process dies."""
    if user is None:
        return [*KILL_WITH_PARENT, program]
    # Changing the user clears --pdeathsig, so an inner setpriv sets it after the change.
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", *KILL_WITH_PARENT, program]


def log_while_running(child: subprocess.Popen, log: Path) -> str:
    """The text of a process's log; an error when the process has ended."""
    text = log.read_text(errors="replace")
    if child.poll() is not None:
        raise StartError(f"{log.stem} exited with {child.returncode}:\n{text[-2000:]}")
    return text


def wait_for_address(log: Path, child: subprocess.Popen, words: str) -> str:
    """Waits until a program logs its address after `words`."""
    pattern = re.compile(rf"{words} (http://[0-9.:]+)")
    wait_until(f"{log.stem} to log its address", lambda: pattern.search(log_while_running(child, log)) is not None)
    return pattern.search(log.read_text()).group(1)


def responds_ok(url: str) -> bool:
    """Whether a GET is answered 200."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def wait_until(goal: str, condition: Callable[[], bool]) -> None:
    """Polls until the condition is true. `goal` completes the error "timed out after … s waiting for …"."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise StartError(f"timed out after {DEADLINE_S:.0f} s waiting for {goal}")
        time.sleep(0.05)

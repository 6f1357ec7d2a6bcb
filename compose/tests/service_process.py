"""Runs a Millrace program with the environment that compose.yaml gives its service."""

import re
import subprocess
from pathlib import Path

from load.millrace_cli import find_program
from load.stack import KILL_WITH_PARENT, Stack, free_port, wait_until

from compose_file import services


def environment(name: str, stack: Stack) -> dict[str, str]:
    """The environment of a service, with the addresses of `stack`."""
    variables = {variable: str(value) for variable, value in services()[name]["environment"].items()}
    assert variables["REDIS_URL"].startswith("redis://redis:6379/") and "@postgres:5432/millrace" in variables["DATABASE_URL"]
    variables |= {variable: stack.variables[variable] for variable in ("PATH", "REDIS_URL", "DATABASE_URL")}
    # A free port on loopback replaces the port of the container.
    return {variable: re.sub(r"^0\.0\.0\.0:\d+$", "127.0.0.1:0", value) for variable, value in variables.items()}


class ServiceProcess:
    """A running program with the environment of its service."""

    def __init__(self, name: str, stack: Stack, folder: Path, listen: str | None = None) -> None:
        self.log = folder / f"{name}-{free_port()}.log"
        program = find_program(name, None)
        assert program is not None, f"{name} is not built"
        variables = environment(name, stack) | ({"LISTEN_ADDR": listen} if listen else {})
        with self.log.open("w") as output:
            self.child = subprocess.Popen([*KILL_WITH_PARENT, str(program)], env=variables, stdout=output, stderr=output)

    def address(self, words: str) -> str:
        """Waits until the program logs its address after `words`, and returns it without a scheme."""
        pattern = re.compile(rf"{words} http://([0-9.:]+)")

        def is_logged() -> bool:
            assert self.child.poll() is None, self.log.read_text()
            return pattern.search(self.log.read_text()) is not None

        wait_until(f"{words} in {self.log.name}", is_logged)
        return pattern.search(self.log.read_text()).group(1)

    def kill(self) -> None:
        """Kills the program and waits for its end."""
        self.child.kill()
        self.child.wait()

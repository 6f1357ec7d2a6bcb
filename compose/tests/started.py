"""What the tests of this folder start: our programs, each with the environment that compose.yaml gives it."""

import re
import subprocess
from pathlib import Path

from load.operator import find_program
from load.stack import MORTAL, Stack, free_port, wait_until

from written import services


def environment(name: str, stack: Stack) -> dict[str, str]:
    """What compose gives a service, with this machine's addresses."""
    given = {variable: str(value) for variable, value in services()[name]["environment"].items()}
    assert given["REDIS_URL"].startswith("redis://redis:6379/") and "@postgres:5432/millrace" in given["DATABASE_URL"]
    given |= {variable: stack.variables[variable] for variable in ("PATH", "REDIS_URL", "DATABASE_URL")}
    # Another port on loopback, in the place of the container's own.
    return {variable: re.sub(r"^0\.0\.0\.0:\d+$", "127.0.0.1:0", value) for variable, value in given.items()}


class Program:
    """One of our programs with a service's environment, until it is killed."""

    def __init__(self, name: str, stack: Stack, folder: Path, listen: str | None = None) -> None:
        self.log = folder / f"{name}-{free_port()}.log"
        program = find_program(name, None)
        assert program is not None, f"{name} is not built"
        given = environment(name, stack) | ({"LISTEN_ADDR": listen} if listen else {})
        with self.log.open("w") as output:
            self.child = subprocess.Popen([*MORTAL, str(program)], env=given, stdout=output, stderr=output)

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

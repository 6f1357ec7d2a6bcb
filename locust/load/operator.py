"""The operator's command `millrace`, where whoever runs the load is the operator, too."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from load.service import Unanswered

PROJECT = Path(__file__).resolve().parents[2]
NEEDED = ("REDIS_URL", "DATABASE_URL")


class Operator:
    """Runs `millrace` against the installation of these variables."""

    def __init__(self, program: Path, variables: Mapping[str, str]) -> None:
        self._program = program
        self._variables = dict(variables)
        self._keys: list[int] = []

    def create_project(self, name: str, plan: str) -> str:
        """A project; its key is returned."""
        made = self._run("project", "create", name, "--plan", plan)
        self._keys.append(made["key_id"])
        return made["key"]

    def revoke_keys(self) -> None:
        """The keys of the projects made here, so that none is left that opens something."""
        while self._keys:
            self._run("key", "revoke", str(self._keys.pop()))

    def audit(self) -> tuple[bool, str]:
        """Whether the books of the whole installation hold, and what the command says of it."""
        finished = self._finish("audit")
        lines = (finished.stdout + finished.stderr).strip().splitlines() or ["it said nothing"]
        told = lines[-1] if finished.returncode == 0 else "; ".join(lines[-8:])
        return finished.returncode == 0, told

    def _run(self, *arguments: str) -> dict:
        finished = self._finish(*arguments, "--json")
        if finished.returncode != 0:
            raise Unanswered(f"millrace {' '.join(arguments)}: {finished.stderr.strip()}")
        return json.loads(finished.stdout or "{}")

    def _finish(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._program), *arguments]
        return subprocess.run(command, env=self._variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def find_program(name: str, folder: Path | None) -> Path | None:
    """A program of ours: in this folder, else the newest build of this project, else on the path."""
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    builds = [PROJECT / "target" / profile / name for profile in ("release", "debug")]
    built = max((build for build in builds if build.is_file()), key=lambda file: file.stat().st_mtime, default=None)
    on_path = shutil.which(name)
    return built or (Path(on_path) if on_path else None)


def find_operator(folder: Path | None, variables: Mapping[str, str]) -> Operator | None:
    """Somebody who can look into the installation, when it is named and the command is here."""
    program = find_program("millrace", folder)
    if program is None or any(not variables.get(name) for name in NEEDED):
        return None
    return Operator(program, variables)


def create_projects(operator: Operator, prefix: str, plans: Sequence[str]) -> list[str]:
    """A project for each of the plans; their keys."""
    return [operator.create_project(f"{prefix}-{number}", plan) for number, plan in enumerate(plans, start=1)]

"""Runs the operator's command `millrace` to create projects, revoke keys and audit the installation."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from load.service import ServiceError

# The root of this repository.
ROOT = Path(__file__).resolve().parents[2]
REQUIRED_VARIABLES = ("REDIS_URL", "DATABASE_URL")


class MillraceCli:
    """The command `millrace`, for the installation that the environment variables name."""

    def __init__(self, program: Path, variables: Mapping[str, str]) -> None:
        self._program = program
        self._variables = dict(variables)
        self._key_ids: list[int] = []

    def create_project(self, name: str, plan: str) -> str:
        """Creates a project and returns its key."""
        created = self._run_json("project", "create", name, "--plan", plan)
        self._key_ids.append(created["key_id"])
        return created["key"]

    def revoke_keys(self) -> None:
        """Revokes the keys of all projects that this object created."""
        while self._key_ids:
            self._run_json("key", "revoke", str(self._key_ids.pop()))

    def audit(self) -> tuple[bool, str]:
        """Whether `millrace audit` succeeds, and the last lines of its output."""
        finished = self._run("audit")
        lines = (finished.stdout + finished.stderr).strip().splitlines() or ["millrace audit printed nothing"]
        output = lines[-1] if finished.returncode == 0 else "; ".join(lines[-8:])
        return finished.returncode == 0, output

    def _run_json(self, *arguments: str) -> dict:
        finished = self._run(*arguments, "--json")
        if finished.returncode != 0:
            raise ServiceError(f"millrace {' '.join(arguments)} failed: {finished.stderr.strip()}")
        return json.loads(finished.stdout or "{}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self._program), *arguments]
        return subprocess.run(command, env=self._variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def find_program(name: str, folder: Path | None) -> Path | None:
    """Finds a Millrace program in `folder`. Without a folder: the newest build in target/, or on PATH."""
    if folder is not None:
        return folder / name if (folder / name).is_file() else None
    builds = [ROOT / "target" / profile / name for profile in ("release", "debug")]
    built = max((build for build in builds if build.is_file()), key=lambda file: file.stat().st_mtime, default=None)
    on_path = shutil.which(name)
    return built or (Path(on_path) if on_path else None)


def find_millrace_cli(folder: Path | None, variables: Mapping[str, str]) -> MillraceCli | None:
    """The command `millrace`; None when it is not found or when `variables` do not name the servers."""
    program = find_program("millrace", folder)
    if program is None or any(not variables.get(name) for name in REQUIRED_VARIABLES):
        return None
    return MillraceCli(program, variables)


def create_projects(cli: MillraceCli, prefix: str, plans: Sequence[str]) -> list[str]:
    """Creates one project for each plan and returns their keys in the same order."""
    return [cli.create_project(f"{prefix}-{number}", plan) for number, plan in enumerate(plans, start=1)]

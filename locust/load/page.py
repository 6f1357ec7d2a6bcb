"""Writes the results of runs into `docs/load-tests.md`: python -m load.page FOLDER...

Each FOLDER is the result folder of one run. The page shows the runs in the order of the arguments.
"""

import re
import shutil
import sys
from pathlib import Path

from load.checks import none_failed
from load.millrace_cli import ROOT
from load.profiles import PROFILES
from load.result import RunResult
from load.summary import checks_table, memory_table, metrics_table, plans_table

PAGE = ROOT / "docs" / "load-tests.md"
IMAGES = ROOT / "docs" / "images"
# The page is written by hand above this line and generated below it.
BEGIN = "<!-- made by `python -m load.page` from the results of runs -->"
# Plots to show in addition to latency and rate.
EXTRA_PLOTS = {"soak": ("memory",), "stress": ("backlog",), "sustained-10m": ("memory",)}


def main(folders: list[Path]) -> None:
    """Replaces the generated part of the page and the plots that it shows."""
    results = [RunResult.read(folder / "result.json") for folder in folders]
    parts = [overview(results), *(section(result, folder) for result, folder in zip(results, folders, strict=True))]
    written, found, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    if not found:
        raise SystemExit(f"error: {PAGE} has no line {BEGIN!r}")
    PAGE.write_text(f"{written}{BEGIN}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def overview(results: list[RunResult]) -> str:
    """One table with all runs."""
    machines = sorted({result.machine for result in results})
    return "\n\n".join(["## All profiles", f"On {'; '.join(machines)}.", metrics_table(results)])


def section(result: RunResult, folder: Path) -> str:
    """The section of one run."""
    outcome = "passed" if none_failed(result.checks) else "failed"
    users = f"Up to {result.users} `{result.user}`s for {result.seconds:g} s"
    processes = "" if result.processes == 1 else f" from {result.processes} processes"
    description = PROFILES[result.profile].description
    parts = [
        f"## {result.profile}: {outcome}",
        f"{description[:1].upper()}{description[1:]}. {users}{processes}, started {result.began}.",
    ]
    parts.append(checks_table(result.checks))
    if result.over_plan:
        parts.append(plans_table(result))
    if any(growth is not None for *_, growth in result.memory.values()):
        parts.append(memory_table(result))
    plots = ("latency", "rate", *EXTRA_PLOTS.get(result.profile, ()))
    parts.append("\n".join(copy_plot(result, folder, name) for name in plots))
    return "\n\n".join(parts)


def copy_plot(result: RunResult, folder: Path, name: str) -> str:
    """Copies a plot to `docs/images` and returns the Markdown that shows it."""
    target = IMAGES / f"load-{result.profile}-{name}.svg"
    shutil.copyfile(folder / f"{name}.svg", target)
    # pygal generates random ids, which would change every file on every run.
    text = target.read_text(encoding="utf-8")
    text = re.sub(r"chart-[0-9a-f-]{36}", f"chart-{result.profile}-{name}", text)
    target.write_text(text, encoding="utf-8")
    return f"![{result.profile}: {name}](images/{target.name})"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])

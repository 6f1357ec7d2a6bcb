"""`docs/load-tests.md` from the results of runs: python -m load.page FOLDER... (each that of a run, in the order of the page)."""

import re
import shutil
import sys
from pathlib import Path

from load.checks import verdict
from load.operator import PROJECT
from load.profiles import PROFILES
from load.result import Result
from load.summary import checks_table, figures_table, memory_table, plans_table

PAGE = PROJECT / "docs" / "load-tests.md"
IMAGES = PROJECT / "docs" / "images"
# Behind this line the page is made; before it, it is written by hand.
BEGIN = "<!-- made by `python -m load.page` from the results of runs -->"
# What is worth a picture besides latency and rate.
MORE_PICTURES = {"soak": ("memory",), "stress": ("backlog",), "sustained-10m": ("memory",)}


def main(folders: list[Path]) -> None:
    """Writes the made part of the page anew, and its pictures."""
    results = [Result.read(folder / "result.json") for folder in folders]
    parts = [overview(results), *(section(result, folder) for result, folder in zip(results, folders, strict=True))]
    written, found, _ = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    if not found:
        raise SystemExit(f"{PAGE} has no line {BEGIN!r}")
    PAGE.write_text(f"{written}{BEGIN}\n\n" + "\n\n".join(parts) + "\n", encoding="utf-8")


def overview(results: list[Result]) -> str:
    """All runs in one table."""
    machines = sorted({result.machine for result in results})
    return "\n\n".join(["## All profiles", f"On {'; '.join(machines)}.", figures_table(results)])


def section(result: Result, folder: Path) -> str:
    """One run."""
    passed = "passed" if verdict(result.checks) else "failed"
    users = f"Up to {result.users} `{result.user}`s for {result.seconds:g} s"
    processes = "" if result.processes == 1 else f" from {result.processes} processes"
    parts = [
        f"## {result.profile}: {passed}",
        f"{PROFILES[result.profile].says.capitalize()}. {users}{processes}, begun {result.began}.",
    ]
    parts.append(checks_table(result.checks))
    if result.over_plan:
        parts.append(plans_table(result))
    if any(growth is not None for *_, growth in result.memory.values()):
        parts.append(memory_table(result))
    pictures = ("latency", "rate", *MORE_PICTURES.get(result.profile, ()))
    parts.append("\n".join(picture(result, folder, name) for name in pictures))
    return "\n\n".join(parts)


def picture(result: Result, folder: Path, name: str) -> str:
    """A plot, copied to the pictures of the docs."""
    target = IMAGES / f"load-{result.profile}-{name}.svg"
    shutil.copyfile(folder / f"{name}.svg", target)
    # Names that pygal makes up anew each time would change every picture every time.
    text = target.read_text(encoding="utf-8")
    text = re.sub(r"chart-[0-9a-f-]{36}", f"chart-{result.profile}-{name}", text)
    target.write_text(text, encoding="utf-8")
    return f"![{result.profile}: {name}](images/{target.name})"


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])

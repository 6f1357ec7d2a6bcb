"""Looks at the programs once a second while they are loaded: their memory, and how much waits."""

import csv
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

INTERVAL_S = 1.0
RESIDENT = "process_resident_memory_bytes"
BACKLOG = "millrace_backlog_events"


@dataclass
class Samples:
    """What was seen, as (seconds since the beginning, value)."""

    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    backlog: list[tuple[float, float]] = field(default_factory=list)


class Watch:
    """Looking from `with` to its end. Programs are named by the address of their metrics, or also by their process."""

    def __init__(self, metrics: Mapping[str, str], processes: Mapping[str, int]) -> None:
        self._metrics = dict(metrics)
        self._processes = dict(processes)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True)
        self.samples = Samples()

    def __enter__(self) -> Self:
        self._begun = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look_again_and_again(self) -> None:
        while not self._over.wait(INTERVAL_S):
            self._look()

    def _look(self) -> None:
        at = round(time.monotonic() - self._begun, 1)
        for name in self._metrics | self._processes:
            seen = scrape(self._metrics.get(name))
            memory = resident_bytes(self._processes[name]) if name in self._processes else seen.get(RESIDENT)
            if memory is not None:
                self.samples.memory.setdefault(name, []).append((at, memory))
            if BACKLOG in seen:
                self.samples.backlog.append((at, seen[BACKLOG]))


def scrape(url: str | None) -> dict[str, float]:
    """The values without labels, or with one set of them, that matter here. A program that does not answer shows as a gap."""
    if url is None:
        return {}
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    values: dict[str, float] = {}
    for line in lines:
        name = line.partition("{")[0].partition(" ")[0]
        if name in (RESIDENT, BACKLOG):
            values[name] = values.get(name, 0.0) + float(line.rsplit(" ", 1)[1])
    return values


def resident_bytes(pid: int) -> float | None:
    """Memory of a process of this machine."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return next((float(line.split()[1]) * 1024 for line in lines), None)


def write_csv(samples: Samples, file: Path) -> None:
    """One line for each value seen."""
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["seconds", "what", "value"])
        for name, values in samples.memory.items():
            writer.writerows((at, f"{name} resident bytes", int(value)) for at, value in values)
        writer.writerows((at, "backlog events", int(value)) for at, value in samples.backlog)

"""Samples the memory of the programs and the backlog once a second while the load runs."""

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
    """Samples as (seconds since the start, value). Memory is in bytes, by program."""

    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    backlog: list[tuple[float, float]] = field(default_factory=list)


class Monitor:
    """Samples in a thread between the start and the end of a `with` block.

    `metrics` are the URLs of metrics and `pids` the process ids on this machine, both by program.
    """

    def __init__(self, metrics: Mapping[str, str], pids: Mapping[str, int]) -> None:
        self._metrics = dict(metrics)
        self._pids = dict(pids)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)
        self.samples = Samples()

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample_until_stopped(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        at = round(time.monotonic() - self._started, 1)
        for name in self._metrics | self._pids:
            values = scrape(self._metrics.get(name))
            memory = resident_bytes(self._pids[name]) if name in self._pids else values.get(RESIDENT)
            if memory is not None:
                self.samples.memory.setdefault(name, []).append((at, memory))
            if BACKLOG in values:
                self.samples.backlog.append((at, values[BACKLOG]))


def scrape(url: str | None) -> dict[str, float]:
    """Reads the two sampled metrics, summed over their labels; empty when the program does not answer."""
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
    """The resident memory of a process on this machine; None when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return next((float(line.split()[1]) * 1024 for line in lines), None)


def write_csv(samples: Samples, file: Path) -> None:
    """Writes one line for each sample."""
    with file.open("w", newline="") as output:
        writer = csv.writer(output)
        writer.writerow(["seconds", "what", "value"])
        for name, values in samples.memory.items():
            writer.writerows((at, f"{name} resident bytes", int(value)) for at, value in values)
        writer.writerows((at, "backlog events", int(value)) for at, value in samples.backlog)

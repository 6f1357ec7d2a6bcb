"""Draws the plots of a run from the files in its result folder."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pygal
from pygal.style import Style

from load.ledger import Ledger

Line = Sequence[tuple[float, float]]

STYLE = Style(
    background="#ffffff",
    plot_background="#ffffff",
    foreground="#444444",
    foreground_strong="#222222",
    foreground_subtle="#888888",
    colors=("#2a6fb0", "#c8553d", "#588157", "#8e6c8a", "#b58900"),
    font_family="sans-serif",
    label_font_size=12,
    major_label_font_size=12,
    legend_font_size=13,
    title_font_size=15,
)
# Longer lines are averaged down to this many points.
POINTS_MAX = 240


def draw(folder: Path) -> list[Path]:
    """Draws every plot that has data, writes them into `folder` and returns the files."""
    history = read_history(folder / "locust_stats_history.csv")
    latency = {name: [(at, row[name]) for at, row in history if name in row] for name in ("p50", "p95", "p99")}
    plots = {
        "latency": ("latency over the last 10 s, ms", latency),
        "rate": ("accepted events per second, and users", rates(folder, history)),
        "memory": ("resident memory, MB", read_samples(folder / "samples.csv", "resident bytes", 1e6)),
        "backlog": ("backlog, events", read_samples(folder / "samples.csv", "backlog events", 1)),
    }
    return [
        write(folder / f"{name}.svg", f"{folder.name}: {title}", lines)
        for name, (title, lines) in plots.items()
        if any(lines.values())
    ]


def rates(folder: Path, history: Sequence[tuple[float, Mapping[str, float]]]) -> dict[str, Line]:
    """Accepted events per second from the ledger, and the number of users."""
    accepted = Ledger.from_json(json.loads((folder / "ledger.json").read_text())).total().accepted_by_second
    if not accepted:
        return {}
    first = min(accepted)
    events = [(float(second - first), float(accepted[second])) for second in range(first, max(accepted) + 1)]
    return {"events/s": events, "users": [(at, row["users"]) for at, row in history]}


def read_history(file: Path) -> list[tuple[float, dict[str, float]]]:
    """Rows of (seconds, values): the latency percentiles of accepted batches, and the number of users."""
    columns = {"50%": "p50", "95%": "p95", "99%": "p99"}
    rows: dict[int, dict[str, float]] = {}
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            row = rows.setdefault(int(line["Timestamp"]), {"users": float(line["User Count"])})
            if line["Name"] == "/v1/events":
                row |= {name: float(line[column]) for column, name in columns.items() if line[column] != "N/A"}
    first = min(rows, default=0)
    return [(float(at - first), rows[at]) for at in sorted(rows)]


def read_samples(file: Path, kind: str, unit: float) -> dict[str, Line]:
    """The samples of one kind, by program."""
    found: dict[str, list[tuple[float, float]]] = {}
    with file.open(newline="") as lines:
        for line in csv.DictReader(lines):
            if line["what"].endswith(kind):
                name = line["what"].removesuffix(kind).strip() or kind
                found.setdefault(name, []).append((float(line["seconds"]), float(line["value"]) / unit))
    return found


def write(file: Path, title: str, lines: Mapping[str, Line]) -> Path:
    """Writes one SVG file without scripts and without external resources."""
    chart = pygal.XY(
        title=title,
        style=STYLE,
        js=[],
        show_dots=False,
        width=900,
        height=300,
        margin=10,
        stroke_style={"width": 2},
        legend_box_size=12,
        x_title="seconds",
        include_x_axis=True,
        disable_xml_declaration=True,
        max_scale=8,
    )
    for name, points in lines.items():
        chart.add(name, downsample(points))
    file.write_text(chart.render(is_unicode=True) + "\n", encoding="utf-8")
    return file


def downsample(points: Line) -> Line:
    """Averages neighboring points when there are more than `POINTS_MAX`."""
    size = -(-len(points) // POINTS_MAX)
    groups = (points[start : start + size] for start in range(0, len(points), size or 1))
    return [tuple(round(sum(column) / len(group), 2) for column in zip(*group, strict=True)) for group in groups]

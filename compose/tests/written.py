"""compose.yaml as it is written, with the demo's variables put in."""

import re
from pathlib import Path

import yaml

PROJECT = Path(__file__).resolve().parents[2]
TEXT = (PROJECT / "compose.yaml").read_text()
EXAMPLE = (PROJECT / ".env.example").read_text()
OURS = ("migrate", "ingest-api", "stream-worker", "welcome", "millrace", "locust")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?])?([^}]*)\}")


def demo() -> dict[str, str]:
    """What the demo sets."""
    lines = (PROJECT / "compose.demo.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(value: object, variables: dict[str, str]) -> object:
    """The same with its variables put in, which compose does after it has read the YAML."""
    if isinstance(value, dict):
        return {name: filled(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, variables) for inner in value]
    return VARIABLE.sub(lambda found: chosen(found, variables), value) if isinstance(value, str) else value


def chosen(found: re.Match[str], variables: dict[str, str]) -> str:
    """What stands in the place of one variable."""
    name, how, default = found.groups()
    assert name in variables or how == ":-", f"{name} has no value"
    return variables.get(name, default)


def services() -> dict[str, dict]:
    """The services of the demo."""
    return filled(yaml.safe_load(TEXT), demo())["services"]

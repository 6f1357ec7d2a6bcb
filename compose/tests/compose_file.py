"""Reads compose.yaml, with the variables of compose.demo.env filled in."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_TEXT = (ROOT / "compose.yaml").read_text()
ENV_EXAMPLE = (ROOT / ".env.example").read_text()
MILLRACE_SERVICES = ("migrate", "ingest-api", "stream-worker", "welcome", "millrace", "locust")
# Groups: the name, the operator (":-" default or ":?" required) and its text.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(:[-?])?([^}]*)\}")


def demo_variables() -> dict[str, str]:
    """The variables of compose.demo.env."""
    lines = (ROOT / "compose.demo.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def interpolate(value: object, variables: dict[str, str]) -> object:
    """Fills in variables as Compose does: after it has parsed the YAML."""
    if isinstance(value, dict):
        return {name: interpolate(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [interpolate(inner, variables) for inner in value]
    return VARIABLE.sub(lambda match: variable_value(match, variables), value) if isinstance(value, str) else value


def variable_value(match: re.Match[str], variables: dict[str, str]) -> str:
    """The value of one variable, or its default."""
    name, operator, default = match.groups()
    assert name in variables or operator == ":-", f"{name} has no value"
    return variables.get(name, default)


def services() -> dict[str, dict]:
    """The services of compose.yaml, by name."""
    return interpolate(yaml.safe_load(COMPOSE_TEXT), demo_variables())["services"]

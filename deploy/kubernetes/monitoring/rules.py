#!/usr/bin/env python3
"""Writes rules.yaml: the alert rules of grafana/rules as one PrometheusRule."""

from pathlib import Path

HERE = Path(__file__).resolve().parent
RULES = HERE.parents[2] / "grafana" / "rules"
HEAD = """\
# Made from grafana/rules. Do not edit: run deploy/kubernetes/monitoring/rules.py.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: millrace
  labels: {app.kubernetes.io/part-of: millrace}
spec:
  groups:
"""


def prometheus_rule() -> str:
    """The text of rules.yaml. The groups are indented and otherwise taken over as they are."""
    groups = []
    for file in sorted(RULES.glob("*.yml")):
        _, groups_of_file = file.read_text().split("\ngroups:\n", 1)
        groups += [f"  {line}".rstrip() + "\n" for line in groups_of_file.splitlines()]
    return HEAD + "".join(groups)


if __name__ == "__main__":
    (HERE / "rules.yaml").write_text(prometheus_rule())

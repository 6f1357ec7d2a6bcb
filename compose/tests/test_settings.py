"""compose.yaml is valid, safe, and consistent with the programs and the other files.

No container engine is needed: the tests read the file and fill in its variables as Compose does. One test
also runs a Compose client, where one is installed.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import compose_spec
import pytest
import yaml

from compose_file import (
    COMPOSE_TEXT,
    ENV_EXAMPLE,
    MILLRACE_SERVICES,
    ROOT,
    VARIABLE,
    demo_variables,
    interpolate,
    services,
)

# Crates that are not part of the product.
TEST_CRATES = ("bench", "faults", "testkit")


def program_settings() -> set[str]:
    """Every environment variable that the source code of the programs names as a setting."""
    crates = [member for member in workspace_members() if member not in TEST_CRATES]
    sources = (file for crate in crates for file in (ROOT / crate / "src").rglob("*.rs"))
    return {name for file in sources for name in re.findall(r'env = "(\w+)"', file.read_text())}


def workspace_members() -> list[str]:
    """The folders of all Rust crates."""
    members = re.search(r"^members = (\[[^\]]*\])", (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert members is not None, "Cargo.toml has no members"
    patterns = yaml.safe_load(members.group(1))
    return [str(folder.relative_to(ROOT)) for pattern in patterns for folder in sorted(ROOT.glob(pattern))]


def test_compose_yaml_follows_the_compose_specification() -> None:
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(interpolate(yaml.safe_load(COMPOSE_TEXT), demo_variables())))
    assert set(MILLRACE_SERVICES) | {"redis", "postgres", "prometheus", "grafana", "gateway"} <= set(parsed.service_names())


def test_a_compose_client_accepts_the_demo_and_requires_passwords(tmp_path: Path) -> None:
    client = compose_client()
    if client is None:
        pytest.skip("no Compose client is installed")
    command = [*client, "--project-directory", str(ROOT), "--file", str(ROOT / "compose.yaml"), "--profile", "*"]
    demo_file = str(ROOT / "compose.demo.env")
    accepted = subprocess.run(
        [*command, "--env-file", demo_file, "config", "--quiet"], capture_output=True, text=True, check=False
    )
    assert (accepted.returncode, accepted.stderr) == (0, "")
    empty = tmp_path / "empty.env"
    empty.touch()
    refused = subprocess.run([*command, "--env-file", str(empty), "config"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "copy .env.example to .env and set it" in refused.stderr


def compose_client() -> list[str] | None:
    """The command of an installed Compose client."""
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    ):
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return None


def test_compose_sets_only_variables_that_the_programs_read() -> None:
    known = program_settings()
    script = (ROOT / "compose" / "welcome").read_text()
    for name in MILLRACE_SERVICES:
        for variable in services()[name].get("environment", {}):
            assert variable in known or f"${variable}" in script or f"${{{variable}" in script, f"{name} sets {variable}"


def test_secrets_have_no_default_and_every_variable_is_documented() -> None:
    for name, operator, _ in VARIABLE.findall(COMPOSE_TEXT):
        assert re.search(rf"^(# )?{name}=", ENV_EXAMPLE, re.MULTILINE), f".env.example does not document {name}"
        assert operator == (":?" if name.endswith("PASSWORD") else ":-"), f"{name}: only secrets have no default"
    assert not re.search(r"PASSWORD=\S", ENV_EXAMPLE)
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", ENV_EXAMPLE, re.MULTILINE)) == {
        name for name, _, _ in VARIABLE.findall(COMPOSE_TEXT)
    }
    assert set(demo_variables()) == {name for name, _, _ in VARIABLE.findall(COMPOSE_TEXT)} - {"MILLRACE_PORT", "GRAFANA_PORT"}


def test_every_service_is_limited_pinned_and_unprivileged() -> None:
    for name, service in services().items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"] and limits["memory"], name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] in ("no", "on-failure", "unless-stopped"), name
        if "build" not in service:
            assert re.fullmatch(r"[\w/-]+:v?\d+\.?[\w.-]+", service["image"]), f"{name}: {service['image']}"
            assert service["user"] not in ("root", "0"), name
        if service["restart"] == "unless-stopped":
            assert service["healthcheck"]["test"], name


def test_ports_are_published_only_on_loopback_and_every_service_can_be_scaled() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert set(published) == {"gateway", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert all("container_name" not in service for service in services().values())


def test_all_files_use_the_same_ports() -> None:
    api, worker = services()["ingest-api"], services()["stream-worker"]
    prometheus = (ROOT / "grafana" / "prometheus.yml").read_text()
    gateway = (ROOT / "compose" / "haproxy.cfg").read_text()
    listen, api_metrics, worker_metrics = (
        environment.rsplit(":", 1)[1]
        for environment in (
            api["environment"]["LISTEN_ADDR"],
            api["environment"]["METRICS_ADDR"],
            worker["environment"]["METRICS_ADDR"],
        )
    )
    assert api["healthcheck"]["test"] == ["CMD", "http-ok", listen, "/readyz"]
    assert worker["healthcheck"]["test"] == ["CMD", "http-ok", worker_metrics, "/healthz"]
    assert f"ingest-api:{listen}" in gateway
    assert re.search(rf"ingest-api\], type: A, port: {api_metrics}", prometheus)
    assert re.search(rf"stream-worker\], type: A, port: {worker_metrics}", prometheus)
    sampled = " ".join(services()["locust"]["entrypoint"])
    assert f"ingest-api:{api_metrics}/" in sampled and f"stream-worker:{worker_metrics}/" in sampled


def test_every_mounted_file_exists_and_is_mounted_read_only() -> None:
    mounts = [mount for service in services().values() for mount in service.get("volumes", []) if mount.startswith("./")]
    assert len(mounts) >= 6
    for mount in mounts:
        assert (ROOT / mount.split(":")[0]).exists(), mount
        assert mount.endswith(":ro"), mount


def test_grafana_serves_the_runbook_at_the_path_that_the_dashboards_link_to() -> None:
    mounts = dict(mount.split(":")[:2] for mount in services()["grafana"]["volumes"])
    dashboards = sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
    assert len(dashboards) == 4
    for dashboard in dashboards:
        variables = json.loads(dashboard.read_text())["templating"]["list"]
        (runbook,) = (variable["query"] for variable in variables if variable["name"] == "runbook")
        assert mounts["./docs/runbook.md"] == f"/usr/share/grafana{runbook}"


def test_the_dockerfile_copies_every_manifest_and_passes_hadolint() -> None:
    dockerfile = ROOT / "Dockerfile"
    for member in workspace_members():
        assert f"COPY {member}/Cargo.toml {member}/" in dockerfile.read_text()
    hadolint = shutil.which("hadolint", path=str(ROOT / ".test" / "locust" / "bin"))
    assert hadolint, "hadolint is not installed; run ./test"
    linted = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")

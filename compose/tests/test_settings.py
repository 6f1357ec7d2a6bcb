"""What compose.yaml sets is what the programs read, and what the images listen on.

No container engine is asked: the file is read as written, its variables are put in as compose does, and where a
client is there, it is asked as well.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import compose_spec
import pytest
import yaml

from written import EXAMPLE, OURS, PROJECT, TEXT, VARIABLE, demo, filled, services


def read_by_programs() -> set[str]:
    """Every setting in the sources."""
    sources = (
        file
        for crate in ("shared", "ingest-api", "stream-worker", "millrace")
        for file in (PROJECT / crate / "src").rglob("*.rs")
    )
    return {name for file in sources for name in re.findall(r'env = "(\w+)"', file.read_text())}


def test_compose_yaml_is_what_the_compose_specification_calls_valid() -> None:
    parsed = compose_spec.PyCompose.from_yaml(yaml.safe_dump(filled(yaml.safe_load(TEXT), demo())))
    assert set(OURS) | {"redis", "postgres", "prometheus", "grafana", "gateway"} <= set(parsed.service_names())


def test_a_compose_client_takes_it_with_the_demo_and_refuses_it_without_passwords(tmp_path: Path) -> None:
    client = compose_client()
    if client is None:
        pytest.skip("no compose client is here")
    asked = [*client, "--project-directory", str(PROJECT), "--file", str(PROJECT / "compose.yaml"), "--profile", "*"]
    demo_file = str(PROJECT / "compose.demo.env")
    taken = subprocess.run([*asked, "--env-file", demo_file, "config", "--quiet"], capture_output=True, text=True, check=False)
    assert (taken.returncode, taken.stderr) == (0, "")
    nothing = tmp_path / "nothing.env"
    nothing.touch()
    refused = subprocess.run([*asked, "--env-file", str(nothing), "config"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "copy .env.example to .env and set it" in refused.stderr


def compose_client() -> list[str] | None:
    """As it is called here."""
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    ):
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    return None


def test_every_variable_for_our_programs_is_one_they_read() -> None:
    known = read_by_programs()
    scripts = (PROJECT / "compose" / "welcome").read_text()
    for name in OURS:
        for variable in services()[name].get("environment", {}):
            assert variable in known or f"${variable}" in scripts or f"${{{variable}" in scripts, f"{name} sets {variable}"


def test_no_secret_has_a_default_and_every_variable_is_explained() -> None:
    for name, how, _ in VARIABLE.findall(TEXT):
        assert re.search(rf"^(# )?{name}=", EXAMPLE, re.MULTILINE), f".env.example does not tell of {name}"
        assert how == (":?" if name.endswith("PASSWORD") else ":-"), f"{name}: a secret has no default, all else has one"
    assert not re.search(r"PASSWORD=\S", EXAMPLE)
    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", EXAMPLE, re.MULTILINE)) == {name for name, _, _ in VARIABLE.findall(TEXT)}
    assert set(demo()) == {name for name, _, _ in VARIABLE.findall(TEXT)} - {"MILLRACE_PORT", "GRAFANA_PORT"}


def test_every_service_is_limited_pinned_and_without_privileges() -> None:
    for name, service in services().items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits["cpus"] and limits["memory"], name
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] in ("no", "on-failure", "unless-stopped"), name
        if "build" not in service:
            assert re.fullmatch(r"[\w/-]+:v?\d+\.?[\w.-]+", service["image"]), f"{name}: {service['image']}"
            assert service["user"] != "root", name
        if service["restart"] == "unless-stopped":
            assert service["healthcheck"]["test"], name


def test_whatever_is_published_is_published_on_loopback_and_never_stands_in_the_way_of_scaling() -> None:
    published = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert set(published) == {"gateway", "grafana"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)
    assert all("container_name" not in service for service in services().values())


def test_ports_are_the_same_wherever_they_are_named() -> None:
    api, worker = services()["ingest-api"], services()["stream-worker"]
    prometheus = (PROJECT / "grafana" / "prometheus.yml").read_text()
    gateway = (PROJECT / "compose" / "haproxy.cfg").read_text()
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
    watched = " ".join(services()["locust"]["entrypoint"])
    assert f"ingest-api:{api_metrics}/" in watched and f"stream-worker:{worker_metrics}/" in watched


def test_every_file_that_is_mounted_is_there() -> None:
    mounts = [mount for service in services().values() for mount in service.get("volumes", []) if mount.startswith("./")]
    assert len(mounts) >= 6
    for mount in mounts:
        assert (PROJECT / mount.split(":")[0]).exists(), mount
        assert mount.endswith(":ro"), mount


def test_grafana_serves_the_runbook_where_the_dashboards_look_for_it() -> None:
    mounts = dict(mount.split(":")[:2] for mount in services()["grafana"]["volumes"])
    dashboards = sorted((PROJECT / "grafana" / "dashboards").glob("*.json"))
    assert len(dashboards) == 3
    for dashboard in dashboards:
        variables = json.loads(dashboard.read_text())["templating"]["list"]
        (runbook,) = (variable["query"] for variable in variables if variable["name"] == "runbook")
        assert mounts["./docs/runbook.md"] == f"/usr/share/grafana{runbook}"


def test_the_dockerfile_has_every_manifest_and_passes_hadolint() -> None:
    dockerfile = PROJECT / "Dockerfile"
    members = re.search(r"^members = (\[.*\])", (PROJECT / "Cargo.toml").read_text(), re.MULTILINE)
    assert members is not None
    for member in yaml.safe_load(members.group(1)):
        assert f"COPY {member}/Cargo.toml {member}/" in dockerfile.read_text()
    hadolint = shutil.which("hadolint", path=str(PROJECT / ".test" / "locust" / "bin"))
    assert hadolint, "run ./test, which installs it"
    linted = subprocess.run([hadolint, str(dockerfile)], capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout) == (0, "")

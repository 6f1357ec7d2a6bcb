"""What must hold in the manifests of an overlay. A check raises an AssertionError that names the manifest."""

import re
from collections.abc import Callable

from manifests import ROOT, Manifest, containers, environment, find, of_kind, pod

PROGRAMS = ("ingest-api", "stream-worker", "millrace")
# Paths that the listeners of a program serve, by the setting with the listener's address.
PATHS = {
    ("ingest-api", "LISTEN_ADDR"): {"/healthz", "/readyz"},
    ("ingest-api", "METRICS_ADDR"): {"/healthz", "/readyz", "/metrics"},
    ("stream-worker", "METRICS_ADDR"): {"/healthz", "/readyz", "/metrics"},
}
DRAIN_GRACE_MS_MIN = 5_000
AFTER_DRAIN_S = 5
NAMESPACE_OF_PROMETHEUS = "monitoring"


def program(container: dict) -> str | None:
    """The program of Millrace that a container runs."""
    return container["command"][0] if container.get("command", [""])[0] in PROGRAMS else None


def workloads(manifests: list[Manifest]) -> list[Manifest]:
    """Everything that has pods."""
    return [manifest for manifest in manifests if pod(manifest)]


def of_millrace(manifests: list[Manifest]) -> list[tuple[Manifest, dict, str]]:
    """Every container that runs a program of Millrace, with its workload and its program."""
    every = [(manifest, container) for manifest in workloads(manifests) for container in containers(manifest)]
    return [(manifest, container, name) for manifest, container in every if (name := program(container))]


def matches(selector: dict, labels: dict[str, str]) -> bool:
    """Whether a label selector selects something with these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}, selector
    by_label = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions), selector
    return by_label and all(labels.get(expression["key"]) in expression["values"] for expression in expressions)


def selected(manifests: list[Manifest], selector: dict) -> list[Manifest]:
    """The workloads whose pods a label selector selects."""
    return [manifest for manifest in workloads(manifests) if matches(selector, pod(manifest)["metadata"]["labels"])]


def ports(workload: Manifest) -> dict[str, int]:
    """The named ports of the containers of a workload."""
    return {port["name"]: port["containerPort"] for container in containers(workload) for port in container.get("ports", [])}


def listeners(manifests: list[Manifest], container: dict) -> dict[str, int]:
    """The port of every setting that is the address of a listener."""
    variables = environment(manifests, container)
    addresses = {name: value for name, value in variables.items() if name in ("LISTEN_ADDR", "METRICS_ADDR")}
    assert all(address.startswith("0.0.0.0:") for address in addresses.values()), f"{addresses}: no other pod reaches loopback"
    return {name: int(address.rsplit(":", 1)[1]) for name, address in addresses.items()}


def settings_of_programs() -> dict[str, set[str]]:
    """The settings of each program, from docs/configuration.md, which is made from the programs."""
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \|[^|]*\|[^|]*\| ([^|]*) \|", page, re.MULTILINE)
    assert len(rows) > 20, "docs/configuration.md has another format"
    return {program: {name for name, read_by in rows if program in read_by.split(", ")} for program in PROGRAMS}


def check_selectors(manifests: list[Manifest]) -> None:
    """Every selector selects the pods of exactly one workload, or of every one that it names."""
    for manifest in workloads(manifests):
        spread = pod(manifest)["spec"].get("topologySpreadConstraints", [])
        selectors = [constraint["labelSelector"] for constraint in spread]
        selectors += [manifest["spec"]["selector"]] if "selector" in manifest["spec"] else []
        for selector in selectors:
            assert selected(manifests, selector) == [manifest], f"{manifest['metadata']['name']}: {selector}"
    for manifest in of_kind(manifests, "Service"):
        assert len(selected(manifests, {"matchLabels": manifest["spec"]["selector"]})) == 1, manifest["metadata"]["name"]
    for manifest in of_kind(manifests, "PodDisruptionBudget"):
        (workload,) = selected(manifests, manifest["spec"]["selector"]) or [None]
        assert workload and workload["metadata"]["name"] == manifest["metadata"]["name"], manifest["metadata"]["name"]
    for manifest in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = manifest["spec"]["scaleTargetRef"]
        workload = find(manifests, target["kind"], target["name"])
        assert workload["apiVersion"] == target["apiVersion"] and "replicas" not in workload["spec"], target
        assert all("requests" in container["resources"] for container in containers(workload)), target
    scaled = {manifest["spec"]["scaleTargetRef"]["name"] for manifest in of_kind(manifests, "HorizontalPodAutoscaler")}
    budgets = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "PodDisruptionBudget")}
    deployments = {manifest["metadata"]["name"] for manifest in of_kind(manifests, "Deployment")}
    assert scaled == budgets == deployments == {"ingest-api", "stream-worker"}


def check_ports(manifests: list[Manifest]) -> None:
    """Ports, probes and Services lead to the listeners of the programs."""
    for manifest, container, name in of_millrace(manifests):
        listening, named = listeners(manifests, container), ports(manifest)
        assert set(listening.values()) == set(named.values()), f"{name} listens on {listening}, its ports are {named}"
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if manifest["kind"] == "Job":
                continue
            get = container[probe]["httpGet"]
            (setting,) = (setting for setting, port in listening.items() if port == named[get["port"]])
            assert get["path"] in PATHS[name, setting], f"{name}: {probe} asks for {get['path']}"
            assert (get["path"] == "/readyz") == (probe == "readinessProbe"), f"{name}: {probe} asks for {get['path']}"
    for manifest in of_kind(manifests, "Service"):
        (workload,) = selected(manifests, {"matchLabels": manifest["spec"]["selector"]})
        for port in manifest["spec"]["ports"]:
            assert port["targetPort"] in ports(workload), f"Service {manifest['metadata']['name']}: {port}"


def check_settings(manifests: list[Manifest]) -> None:
    """Every variable is a setting of the program that gets it."""
    settings = settings_of_programs()
    for manifest, container, name in of_millrace(manifests):
        unknown = set(environment(manifests, container)) - settings[name]
        assert not unknown, f"{manifest['metadata']['name']}: {name} has no settings {sorted(unknown)}"


def check_references(manifests: list[Manifest], outside: list[Manifest]) -> None:
    """Every file that a setting names is mounted from a key that exists. `outside` has more Secrets."""
    sources = manifests + outside
    for manifest in workloads(manifests):
        spec = pod(manifest)["spec"]
        account = spec.get("serviceAccountName")
        assert account is None or find(manifests, "ServiceAccount", account)
        keys = {volume["name"]: volume_keys(sources, volume) for volume in spec.get("volumes", [])}
        claims = [claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])]
        for container in containers(manifest):
            files = set()
            for mount in container["volumeMounts"]:
                assert mount["name"] in keys or mount["name"] in claims, f"{manifest['metadata']['name']}: {mount}"
                files |= {f"{mount['mountPath']}/{key}" for key in keys.get(mount["name"], ())}
                assert not keys.get(mount["name"]) or mount.get("readOnly"), f"{manifest['metadata']['name']}: {mount}"
            for name, value in environment(manifests, container).items():
                assert not value.startswith("/etc/") or value in files, f"{manifest['metadata']['name']}: {name}={value}"


def volume_keys(sources: list[Manifest], volume: dict) -> set[str]:
    """The files in a volume; none when it is no Secret."""
    if "secret" not in volume:
        assert "emptyDir" in volume, volume
        return set()
    assert "items" not in volume["secret"], "teach tests/checks.py the paths of single keys"
    return set(find(sources, "Secret", volume["secret"]["secretName"])["stringData"])


def check_grace(manifests: list[Manifest]) -> None:
    """A pod has time to drain: for load balancers, for a slow body, and for the last writes."""
    container = find(manifests, "Deployment", "ingest-api")["spec"]["template"]["spec"]
    variables = find(manifests, "ConfigMap", "ingest-api")["data"]
    drain, body = int(variables["DRAIN_GRACE_MS"]), int(variables["BODY_TIMEOUT_MS"])
    assert drain >= DRAIN_GRACE_MS_MIN, "load balancers need time"
    grace = container["terminationGracePeriodSeconds"]
    assert grace >= (drain + body) / 1_000 + AFTER_DRAIN_S, f"{grace} s"


def check_security(manifests: list[Manifest]) -> None:
    """No pod has more rights than it needs, or more of a machine than it should."""
    for manifest in workloads(manifests):
        name, spec = manifest["metadata"]["name"], pod(manifest)["spec"]
        context = spec["securityContext"]
        assert context["runAsNonRoot"] and context["runAsUser"] >= 100, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        for container in containers(manifest):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert set(container["resources"]) == {"requests", "limits"}, name
            assert re.search(r":v?\d[\w.-]*$", container["image"]), f"{name}: {container['image']} is not pinned"
    dockerfile = (ROOT / "Dockerfile").read_text()
    (user,) = set(re.findall(r"^USER (\d+)$", dockerfile, re.MULTILINE))
    for manifest, _, name in of_millrace(manifests):
        assert str(pod(manifest)["spec"]["securityContext"]["runAsUser"]) == user, name


def rules(manifests: list[Manifest], workload: Manifest, direction: str) -> list[dict]:
    """The network rules for the pods of a workload."""
    labels = pod(workload)["metadata"]["labels"]
    policies = [manifest["spec"] for manifest in of_kind(manifests, "NetworkPolicy")]
    applying = [spec for spec in policies if matches(spec["podSelector"], labels) and direction in spec["policyTypes"]]
    return [rule for spec in applying for rule in spec.get(direction.lower(), [])]


def check_network(manifests: list[Manifest]) -> None:
    """The policies allow what the programs need, and name ports that exist."""
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in [
        manifest["spec"] for manifest in of_kind(manifests, "NetworkPolicy")
    ], "nothing is denied"
    for workload in workloads(manifests):
        name, named = workload["metadata"]["name"], ports(workload)
        incoming = rules(manifests, workload, "Ingress")
        allowed = {port["port"] for rule in incoming for port in rule["ports"]}
        assert allowed == set(named), f"{name}: policies allow the ports {allowed}, it has {named}"
        for rule in incoming:
            sources = [
                source["namespaceSelector"]["matchLabels"] for source in rule.get("from", []) if "namespaceSelector" in source
            ]
            is_for_metrics = [port["port"] for port in rule["ports"]] == ["metrics"]
            expected = [{"kubernetes.io/metadata.name": NAMESPACE_OF_PROMETHEUS}] if is_for_metrics else []
            assert sources == expected, f"{name}: {rule}"
    for workload, _, name in of_millrace(manifests):
        outgoing = rules(manifests, workload, "Egress")
        reached = {destination_port(manifests, rule, port) for rule in outgoing for port in rule["ports"]}
        servers = {5432} if name == "millrace" else {5432, 6379}
        assert reached == {53} | servers, f"{name} reaches {reached}"


def destination_port(manifests: list[Manifest], rule: dict, port: dict) -> int:
    """The number of a port of an egress rule."""
    if isinstance(port["port"], int):
        return port["port"]
    (destination,) = rule["to"]
    (workload,) = selected(manifests, destination["podSelector"])
    return ports(workload)[port["port"]]


CHECKS: tuple[Callable[[list[Manifest]], None], ...] = (
    check_selectors,
    check_ports,
    check_settings,
    check_grace,
    check_security,
    check_network,
)

"""Reads the manifests of a folder with a kustomization.yaml, as `kubectl kustomize` builds them.

It knows only what these folders use: resources, namespace, images, and patches by path. All else fails.
"""

import copy
from pathlib import Path

import yaml

KUBERNETES = Path(__file__).resolve().parents[1]
ROOT = KUBERNETES.parents[1]
OVERLAYS = ("demo", "managed")
KNOWN_FIELDS = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
# Kinds that are not in a namespace.
CLUSTER_KINDS = ("Namespace",)

Manifest = dict


def read_yaml(file: Path) -> list[Manifest]:
    """The documents of a file."""
    return [document for document in yaml.safe_load_all(file.read_text()) if document is not None]


def build(folder: Path) -> list[Manifest]:
    """Every manifest that applying this folder would send to the cluster."""
    (kustomization,) = read_yaml(folder / "kustomization.yaml")
    assert set(kustomization) <= KNOWN_FIELDS, f"{folder}: teach tests/manifests.py {set(kustomization) - KNOWN_FIELDS}"
    manifests = [manifest for name in kustomization["resources"] for manifest in resource(folder / name)]
    for patch in kustomization.get("patches", []):
        for change in read_yaml(folder / patch["path"]):
            target = find(manifests, change["kind"], change["metadata"]["name"])
            manifests[manifests.index(target)] = merge(target, change)
    images = {image["name"]: f"{image['newName']}:{image['newTag']}" for image in kustomization.get("images", [])}
    for manifest in manifests:
        if "namespace" in kustomization and manifest["kind"] not in CLUSTER_KINDS:
            manifest["metadata"]["namespace"] = kustomization["namespace"]
        for container in containers(manifest):
            container["image"] = images.get(container["image"], container["image"])
    return manifests


def resource(path: Path) -> list[Manifest]:
    """A folder with a kustomization.yaml, or a file."""
    return build(path) if path.is_dir() else read_yaml(path)


def overlay(name: str) -> list[Manifest]:
    """The manifests of one overlay."""
    return build(KUBERNETES / "overlays" / name)


def find(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    """The one manifest of this kind and name."""
    found = [manifest for manifest in manifests if (manifest["kind"], manifest["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, f"{len(found)} manifests are a {kind} named {name}"
    return found[0]


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    """Every manifest of these kinds."""
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def merge(original: object, change: object) -> object:
    """A strategic merge: mappings are merged, and lists of named things by their names."""
    if isinstance(original, dict) and isinstance(change, dict):
        merged = original | {name: merge(original.get(name), value) for name, value in change.items()}
        return copy.deepcopy(merged)
    if isinstance(original, list) and isinstance(change, list) and all(isinstance(item, dict) for item in change):
        key = "mountPath" if "mountPath" in change[0] else "name"
        by_key = {item[key]: item for item in original}
        # New things come first, as kustomize puts them.
        added = [item for item in change if item[key] not in by_key]
        changed = {item[key]: merge(by_key[item[key]], item) for item in change if item[key] in by_key}
        return copy.deepcopy(added + [changed.get(item[key], item) for item in original])
    return copy.deepcopy(change)


def pod(manifest: Manifest) -> dict | None:
    """The template of the pods of a workload: its metadata and its spec."""
    return manifest["spec"]["template"] if manifest["kind"] in ("Deployment", "StatefulSet", "Job") else None


def containers(manifest: Manifest) -> list[dict]:
    """The containers of a workload; none for anything else."""
    template = pod(manifest)
    return template["spec"]["containers"] + template["spec"].get("initContainers", []) if template else []


def environment(manifests: list[Manifest], container: dict) -> dict[str, str]:
    """The variables that a container gets."""
    variables = {}
    for source in container.get("envFrom", []):
        variables |= find(manifests, "ConfigMap", source["configMapRef"]["name"])["data"]
    return variables | {variable["name"]: variable["value"] for variable in container.get("env", [])}

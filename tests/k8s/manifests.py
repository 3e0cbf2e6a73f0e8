"""Reads k8s/base as a cluster would: documents by kind, a container's environment with its references resolved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
BASE = ROOT / "k8s" / "base"


def documents() -> list[dict[str, Any]]:
    """Every document that kustomization.yaml names, in its order."""
    names = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))["resources"]
    return [document for name in names for document in yaml.safe_load_all((BASE / name).read_text("utf-8"))]


def find(kind: str, name: str) -> dict[str, Any]:
    """The document of that kind and name."""
    (found,) = [item for item in documents() if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def environment(container: dict[str, Any], pod: str, secrets: dict[str, str]) -> dict[str, str]:
    """The variables that the kubelet would give a container of a pod, $(NAME) references resolved."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= find("ConfigMap", source["configMapRef"]["name"])["data"] if "configMapRef" in source else secrets
    for entry in container["env"]:
        if "valueFrom" in entry:
            assert entry["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
            found[entry["name"]] = pod
        else:
            found[entry["name"]] = re.sub(r"\$\((\w+)\)", lambda match: found[match[1]], entry["value"])
    return found


def pod_spec() -> dict[str, Any]:
    """The StatefulSet's pod."""
    spec: dict[str, Any] = find("StatefulSet", "headrace")["spec"]["template"]["spec"]
    return spec

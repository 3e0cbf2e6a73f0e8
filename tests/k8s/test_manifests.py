"""The manifests are valid for the API, keep the rules of a Bytewax cluster, and agree with the code they start."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from control import alive, pod
from control.cli.main import app
from flows import spec
from libcore.errors import ConfigurationError
from tests.k8s.manifests import BASE, ROOT, documents, environment, find, pod_spec

VERSIONS = ("1.34", kubernetes_validate.latest_version())


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_valid(version: str) -> None:
    """Each document passes the API's own schema, unknown fields refused; a wrong field would be seen."""
    found = documents()
    assert {item["kind"] for item in found} == {"ConfigMap", "PersistentVolumeClaim", "Service", "StatefulSet"}
    for item in found:
        assert kubernetes_validate.validate(item, version, strict=True)
    broken = find("StatefulSet", "headrace")
    broken["spec"]["replica"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_kustomization_names_every_file() -> None:
    """No manifest in the folder is forgotten, and each is there."""
    named = yaml.safe_load((BASE / "kustomization.yaml").read_text("utf-8"))["resources"]
    assert sorted(named) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


def test_the_cluster_starts_and_stops_as_one() -> None:
    """Parallel and OnDelete, names before readiness, the replica count told alike, one state for all pods."""
    stateful = find("StatefulSet", "headrace")["spec"]
    assert (stateful["podManagementPolicy"], stateful["updateStrategy"]["type"]) == ("Parallel", "OnDelete")
    told = find("ConfigMap", "headrace-environment")["data"]
    assert told["BYTEWAX_REPLICAS"] == str(stateful["replicas"])
    service = find("Service", stateful["serviceName"])["spec"]
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    assert service["selector"] == stateful["selector"]["matchLabels"] == stateful["template"]["metadata"]["labels"]
    assert {port["port"] for port in service["ports"]} >= {
        int(told["HEADRACE_PORT"]),
        int(told["HEADRACE_METRICS_PORT"]),
    }
    assert find("PersistentVolumeClaim", "headrace-state")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_pods_have_few_rights_and_bounds() -> None:
    """No root, no writable image, no capabilities, no token; every container has a memory bound."""
    pod_ = pod_spec()
    assert pod_["securityContext"]["runAsNonRoot"] and pod_["automountServiceAccountToken"] is False
    for container in [*pod_["initContainers"], *pod_["containers"]]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]


def test_what_the_pod_writes_lies_on_a_volume() -> None:
    """Each path of the environment is under a writable mount, because the image cannot be written."""
    for container in [*pod_spec()["initContainers"], *pod_spec()["containers"]]:
        mounts = [mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")]
        variables = environment(container, "headrace-0", {})
        for name in ("HEADRACE_STATE_DIR", "BYTEWAX_RECOVERY_DIRECTORY", "BYTEWAX_HOSTFILE_PATH"):
            assert any(Path(variables[name]).is_relative_to(mount) for mount in mounts), name


def test_the_pipeline_in_the_manifest_is_accepted() -> None:
    """The example pipeline is what the product reads, and it is mounted where the worker looks for it."""
    text = find("ConfigMap", "headrace-pipeline")["data"]["pipeline.toml"]
    pipeline = spec.parse(text, "pipeline.toml")
    assert pipeline.sink.postgres is not None and pipeline.sink.postgres.dsn == "env:WAREHOUSE_DSN"
    (argument,) = pod_spec()["containers"][0]["args"]
    assert argument == "flows.build:flow('/etc/headrace/pipeline.toml')"


def test_the_image_runs_python_as_process_one() -> None:
    """Exec form, not root, two stages, and the module that the manifest's argument is meant for."""
    text = (ROOT / "k8s" / "image" / "Dockerfile").read_text("utf-8")
    assert re.search(r'^ENTRYPOINT \["python", "-m", "bytewax.run"\]$', text, re.M)
    assert re.search(r"^USER 10001:10001$", text, re.M) and len(re.findall(r"^FROM ", text, re.M)) == 2
    for source in re.findall(r"^COPY ([\w. ]+) \S+$", text, re.M):
        assert all((ROOT / name).exists() for name in source.split()), source


def test_probes_are_commands_of_the_product() -> None:
    """The probes' options are those that the module knows, so that a renamed option fails here and not in a cluster."""
    worker = pod_spec()["containers"][0]
    for probe in ("startupProbe", "livenessProbe"):
        command = worker[probe]["exec"]["command"]
        assert command[:3] == ["python", "-m", "control.alive"]
        assert alive.main(command[3:]) == 78  # the options were taken; only the state directory is missing


def test_a_pod_is_prepared_from_the_environment(tmp_path: Path) -> None:
    """The init container writes one address a pod and gives the store to pod 0 alone; twice is as good as once."""
    for index in (0, 1):
        variables = environment(pod_spec()["initContainers"][0], f"headrace-{index}", {})
        paths = ("HEADRACE_STATE_DIR", "BYTEWAX_RECOVERY_DIRECTORY", "BYTEWAX_HOSTFILE_PATH")
        variables |= {name: f"{tmp_path}{variables[name]}" for name in paths}
        pod.prepare(variables)
        pod.prepare(variables)
    hosts = (tmp_path / "run/headrace/hosts").read_text("utf-8")
    assert hosts == "headrace-0.headrace:9999\nheadrace-1.headrace:9999\n"
    stores = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.sqlite3"))
    assert stores == ["state/recovery/headrace-0/part-0.sqlite3"]


def test_a_replica_count_that_does_not_fit_is_refused() -> None:
    """A pod beyond BYTEWAX_REPLICAS does not start: the others would never know it."""
    variables = environment(pod_spec()["initContainers"][0], "headrace-2", {})
    with pytest.raises(ConfigurationError, match="BYTEWAX_REPLICAS"):
        pod.prepare(variables)
    with pytest.raises(ConfigurationError, match="BYTEWAX_POD_NAME"):
        pod.prepare({**variables, "BYTEWAX_POD_NAME": "other-0"})


def test_the_runbook_names_commands_that_exist() -> None:
    """Every `headrace COMMAND` of the operating pages is a command."""
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    for page in (ROOT / "docs" / "operate").glob("*.md"):
        named = set(re.findall(r"(?:^|`)headrace ([a-z-]+)", page.read_text("utf-8"), re.M))
        assert named <= commands, page.name

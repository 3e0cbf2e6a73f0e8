"""The pods as local processes: the manifest's commands and exactly its environment, only paths and ports are mapped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from bench import generate, truth
from connectors.kafka.topics import Producer
from flows.ports import free_port
from tests.k8s.manifests import ROOT, environment, find, pod_spec

_SECONDS = 60.0


class _Pods:
    """All pods of the StatefulSet, on this machine."""

    def __init__(self, root: Path, secrets: dict[str, str]) -> None:
        spec = find("StatefulSet", "headrace")["spec"]
        self._root, self._secrets = root, secrets
        self.names = [f"headrace-{index}" for index in range(spec["replicas"])]
        self._ports = {name: free_port() for name in self.names}
        self.metrics = {name: free_port() for name in self.names}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def environment(self, container: dict[str, Any], name: str) -> dict[str, str]:
        """The manifest's variables and nothing else of ours; below the root, with a metrics port that is free."""
        found = {key: self._mapped(value) for key, value in environment(container, name, self._secrets).items()}
        ours = {"HEADRACE_METRICS_PORT": str(self.metrics[name]), "PATH": os.environ["PATH"], "HOME": str(self._root)}
        return {**found, **ours}

    def command(self, container: dict[str, Any], words: list[str]) -> list[str]:
        """A command of the manifest or the image, run by this Python."""
        assert words[0] == "python"
        return [sys.executable, *(self._mapped(word) for word in words[1:])]

    def start(self) -> None:
        """What the kubelet does: init container, then the worker, in every pod at once."""
        (prepare,), (worker,) = pod_spec()["initContainers"], pod_spec()["containers"]
        dockerfile = (ROOT / "k8s" / "image" / "Dockerfile").read_text("utf-8")
        entrypoint = json.loads(re.findall(r"^ENTRYPOINT (.*)$", dockerfile, re.M)[0])
        for name in self.names:
            variables = self.environment(prepare, name)
            subprocess.run(self.command(prepare, prepare["command"]), cwd=ROOT, env=variables, check=True)
        hosts = self._root / "run" / "headrace" / "hosts"
        for name in self.names:
            # The Service's name for the pod becomes this machine's address.
            text = hosts.read_text("utf-8").replace(f"{name}.headrace:9999", f"127.0.0.1:{self._ports[name]}")
            hosts.write_text(text, "utf-8")
        assert "headrace" not in hosts.read_text("utf-8")
        for name in self.names:
            with (self._root / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    self.command(worker, [*entrypoint, *worker["args"]]),
                    cwd=ROOT,
                    env=self.environment(worker, name),
                    stdout=log,
                    stderr=log,
                )

    def probe(self, name: str, which: str) -> int:
        """Exit code of a probe, run as in the pod."""
        (worker,) = pod_spec()["containers"]
        words = self.command(worker, worker[which]["exec"]["command"])
        return subprocess.run(words, cwd=ROOT, env=self.environment(worker, name), check=False).returncode

    def wait(self, seconds: float = 20.0) -> list[int]:
        """Exit codes of all, which have that long to end."""
        return [process.wait(seconds) for process in self.processes.values()]

    def kill(self) -> None:
        """End what still runs."""
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def logs(self) -> str:
        """The end of every pod's log."""
        return "\n".join(path.read_text("utf-8")[-3000:] for path in sorted(self._root.glob("*.log")))

    def _mapped(self, text: str) -> str:
        return re.sub(r"(?<![\w.])/(state|run/headrace|etc/headrace)\b", rf"{self._root}/\1", text)


def _until(condition: Callable[[], object], pods: _Pods) -> None:
    deadline = time.monotonic() + _SECONDS
    while not condition():
        assert time.monotonic() < deadline, pods.logs()
        time.sleep(0.1)


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read(), "utf-8")


def _rows(dsn: str) -> int:
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass('items')").fetchone() == (None,):
            return 0
        row = connection.execute("SELECT count(*) FROM items").fetchone()
    assert row is not None
    return int(row[0])


def test_the_pods_replicate_survive_a_kill_and_stop_cleanly(
    broker: str, topic: Callable[[int], str], postgres: str, tmp_path: Path
) -> None:
    """Pods of the manifest bring a topic into a table; a pod killed by -9 takes all along, and started again the table
    comes out right; SIGTERM ends each with 0."""
    name, data = topic(4), tmp_path / "data"
    generate.write(data, 4000)
    messages = list(generate.read(data / "items.tsv"))
    text = find("ConfigMap", "headrace-pipeline")["data"]["pipeline.toml"]
    text = text.replace("kafka:9092", broker).replace("erp.public.items", name)
    (tmp_path / "etc" / "headrace").mkdir(parents=True)
    (tmp_path / "etc" / "headrace" / "pipeline.toml").write_text(text, "utf-8")
    pods = _Pods(tmp_path, {"WAREHOUSE_DSN": postgres})
    try:
        _produce(broker, name, messages[:2000])
        pods.start()
        _until(lambda: _rows(postgres) > 0, pods)
        assert [pods.probe(pod, which) for pod in pods.names for which in ("startupProbe", "livenessProbe")] == [0] * 4
        assert all("headrace_events_total" in _metrics(port) for port in pods.metrics.values())
        pods.processes["headrace-1"].kill()
        _produce(broker, name, messages[2000:])
        assert 0 not in pods.wait(), pods.logs()
        pods.start()
        expected = truth.final(data, "items").num_rows
        _until(lambda: _rows(postgres) == expected, pods)
        for process in pods.processes.values():
            process.send_signal(signal.SIGTERM)
        assert pods.wait(30) == [0, 0], pods.logs()
    finally:
        pods.kill()
    with psycopg.connect(postgres) as connection:
        compared = truth.check(connection, "items", data, "items")
    assert compared.equal, compared


def _produce(servers: str, topic: str, messages: list[tuple[bytes, bytes]]) -> None:
    producer = Producer(servers)
    producer.write(topic, messages)
    producer.flush()

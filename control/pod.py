"""Prepares a pod of the StatefulSet before its worker starts: the hostfile, and in pod 0 the recovery store.

    python -m control.pod

Runs as init container, from the variables of the manifest: BYTEWAX_STATEFULSET_NAME, BYTEWAX_POD_NAME,
BYTEWAX_REPLICAS, BYTEWAX_HOSTFILE_PATH, BYTEWAX_RECOVERY_DIRECTORY, HEADRACE_STATE_DIR, HEADRACE_SERVICE (the headless
Service), HEADRACE_PORT.

Each pod has a recovery directory of its own and only pod 0's holds the one partition: a SQLite file is opened by one
process alone, whatever the volume does with locks, and Bytewax brings the other pods' snapshots there.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from flows import recovery_store
from libcore.errors import ConfigurationError


def hostfile(statefulset: str, service: str, replicas: int, port: int) -> str:
    """One address a line, line i for pod i; item i is also where pod i listens."""
    if replicas < 1:
        raise ConfigurationError(f"BYTEWAX_REPLICAS: expected at least 1, found {replicas}")
    return "".join(f"{statefulset}-{index}.{service}:{port}\n" for index in range(replicas))


def ordinal(statefulset: str, pod: str) -> int:
    """The index in a pod's name."""
    name, _, number = pod.rpartition("-")
    if name != statefulset or not number.isdigit():
        raise ConfigurationError(f"BYTEWAX_POD_NAME: expected {statefulset}-N, found {pod}")
    return int(number)


def prepare(environment: Mapping[str, str]) -> None:
    """Write the hostfile, make the state directory and, in pod 0, the recovery store where it is missing."""
    statefulset, pod = _value(environment, "BYTEWAX_STATEFULSET_NAME"), _value(environment, "BYTEWAX_POD_NAME")
    service, replicas = _value(environment, "HEADRACE_SERVICE"), int(_value(environment, "BYTEWAX_REPLICAS"))
    path = Path(_value(environment, "BYTEWAX_HOSTFILE_PATH"))
    text = hostfile(statefulset, service, replicas, int(_value(environment, "HEADRACE_PORT")))
    index = ordinal(statefulset, pod)
    if index >= replicas:
        raise ConfigurationError(
            f"BYTEWAX_REPLICAS: {pod} exists but the value is {replicas}: set it to the StatefulSet's replicas"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    Path(_value(environment, "HEADRACE_STATE_DIR")).mkdir(parents=True, exist_ok=True)
    recovery = Path(_value(environment, "BYTEWAX_RECOVERY_DIRECTORY"))
    recovery.mkdir(parents=True, exist_ok=True)
    if index == 0:
        recovery_store.prepare(recovery)


def _value(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise ConfigurationError(f"{name}: expected a value from the manifest, found nothing")
    return environment[name]


def main() -> int:
    """Prepare, or print why not; 78 for what a person must change."""
    try:
        prepare(os.environ)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 78
    return 0


if __name__ == "__main__":
    sys.exit(main())

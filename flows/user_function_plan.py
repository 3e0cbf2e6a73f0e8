"""A `call` step of a pipeline file made ready: its library found and loaded, its quarantine looked at."""

from __future__ import annotations

from pathlib import Path

from flows.operators.user_function import CallPlan, plan_call
from flows.spec_steps import CallStep
from flows.user_function_marker import Marker
from libcore.errors import ConfigurationError
from libcore.schema import Table


def compile_call(step: CallStep, table: Table, name: str, file: Path) -> CallPlan:
    """The step's plan for a table. Raises ConfigurationError, also where library or function are not there."""
    library, _, function = step.call.rpartition(":")
    return plan_call(table, str(_library(library, file)), function, step.take, step.gives, step.drop, name)


def marker_of(step: CallStep, step_id: str, file: Path, state: Path, process: int) -> Marker:
    """What is known of the function's crashes.

    Raises: ConfigurationError where it is quarantined and the step is to stop then.
    """
    library, _, _ = step.call.rpartition(":")
    marker = Marker(state, step_id, step.call, _library(library, file), process)
    if marker.quarantine is not None and step.on_crash == "stop":
        raise ConfigurationError(
            f"step {step_id}: {marker.quarantine}. Another build of {library} is tried by itself; to try this one "
            f'again delete {marker.quarantine_file}; on_crash = "park" makes dead letters of its rows and goes on',
            file=str(file),
        )
    return marker


def _library(name: str, file: Path) -> Path:
    path = (file.resolve().parent / name).resolve()
    if not path.is_file():
        raise ConfigurationError(f"call: expected a shared library, found no file {path}", file=str(file))
    return path

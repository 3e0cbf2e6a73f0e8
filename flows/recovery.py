"""What a durable flow needs before it may start: a recovery store, and sinks whose writes gate the epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink

from libcore.errors import ConfigurationError

NO_RECOVERY_ENVIRONMENT = "HEADRACE_ALLOW_NO_RECOVERY"


def require_recovery(arguments: Sequence[str], environment: Mapping[str, str], allowed: bool) -> None:
    """Refuse a start without a recovery store, unless told so. Raises ConfigurationError."""
    if allowed or environment.get(NO_RECOVERY_ENVIRONMENT) == "1" or environment.get("BYTEWAX_RECOVERY_DIRECTORY"):
        return
    if any(argument.startswith("--recovery-directory") or argument[:2] == "-r" for argument in arguments):
        return
    raise ConfigurationError(
        "expected a recovery store (-r DIR -s 0 -b 0; `python -m bytewax.recovery DIR 1` makes one), found none: "
        "after a crash rows would be lost or doubled; "
        f"allow_no_recovery=True or {NO_RECOVERY_ENVIRONMENT}=1 starts all the same"
    )


def check_durable(dataflow: Dataflow) -> None:
    """Refuse sinks whose writes do not gate the epoch: a crash loses their rows. Raises ConfigurationError."""
    waiting = list(dataflow.substeps)
    while waiting:
        step = waiting.pop()
        waiting.extend(step.substeps)
        sink = getattr(step, "sink", None)
        if isinstance(sink, DynamicSink):
            raise ConfigurationError(
                f"step {step.step_id}: expected a FixedPartitionedSink in a durable flow, found {type(sink).__name__}, "
                "a DynamicSink: its epoch can become durable before its rows are written, so a crash loses them"
            )

"""What a durable flow needs before it may start."""

from __future__ import annotations

import bytewax.operators as op
import pytest
from bytewax.connectors.stdio import StdOutSink
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSource

from flows import recovery
from libcore.errors import ConfigurationError


def test_a_flow_without_a_recovery_store_is_refused() -> None:
    """Neither -r nor the environment names one: refused with the way to make one; told so, it starts."""
    with pytest.raises(ConfigurationError, match=r"expected a recovery store .* found none"):
        recovery.require_recovery(["flows.build:flow('x')", "-s", "0"], {}, False)
    for arguments in (["-r", "d"], ["-rd"], ["--recovery-directory", "d"], ["--recovery-directory=d"]):
        recovery.require_recovery(arguments, {}, False)
    recovery.require_recovery([], {"BYTEWAX_RECOVERY_DIRECTORY": "d"}, False)
    recovery.require_recovery([], {recovery.NO_RECOVERY_ENVIRONMENT: "1"}, False)
    recovery.require_recovery([], {}, True)


def test_a_dynamic_sink_is_refused() -> None:
    """Bytewax's own stdout and Kafka sinks can lose rows in a durable flow: named with their step, however deep."""

    @op.operator  # type: ignore[attr-defined,untyped-decorator,unused-ignore]
    def nested(step_id: str, up: op.Stream[int]) -> None:
        op.output("deep", up, StdOutSink())

    flow = Dataflow("lossy")
    nested("print", op.input("in", flow, TestingSource([1])))
    with pytest.raises(ConfigurationError, match=r"step lossy\.print\.deep: .* found StdOutSink, a DynamicSink"):
        recovery.check_durable(flow)

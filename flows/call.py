"""Functions of a source's system that a pipeline file allows, called by a person beside the flow: BAPIs of SAP."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from connectors import registry
from connectors.base.database import SourceContext
from flows import build
from libcore.errors import ConfigurationError

KIND = "sap_rfc"


def call(path: str, function: str, parameters: Mapping[str, Any], source: str | None = None) -> dict[str, Any]:
    """What a function answers, its changes committed.

    Args:
        path: the pipeline file. source: which of several sources of that kind.
    Raises: ConfigurationError where the file has no such source or does not allow the function, DataError where the
        function refuses (nothing was changed), FatalError where it is not known whether it was done.
    """
    pipeline = build.load(path)
    known = [one for one in pipeline.source.all if one.kind == KIND and source in (None, one.name)]
    if len(known) != 1:
        found = ", ".join(one.name for one in known) or "none"
        wanted = f"one [source.{KIND}]" if source is None else f"a [source.{KIND}.{source}]"
        raise ConfigurationError(f"call: expected {wanted}, found {found}; --source names one of several", file=path)
    system = registry.system(KIND).changes(known[0].settings, SourceContext(flow=pipeline.name))
    with closing(system):
        answer: dict[str, Any] = system.call(function, parameters)
        return answer

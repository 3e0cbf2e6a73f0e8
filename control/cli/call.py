"""`headrace call FILE FUNCTION`: a BAPI of the pipeline's SAP system, where the file allows it."""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from typing import Annotated, Any

import typer

from control.cli.support import File, quiet_logs, reported


def call(
    file: File,
    function: Annotated[str, typer.Argument(help="One of bapi_allowed in [source.sap_rfc].", show_default=False)],
    parameters: Annotated[str, typer.Argument(help="A JSON object by parameter; -: from standard input.")] = "{}",
    source: Annotated[str | None, typer.Option("--source", help="Which of several SAP systems.")] = None,
) -> None:
    """Call a BAPI of the pipeline's SAP system; commit it, or roll it back where its RETURN tells of an error.

    Prints what it answers as JSON. Exit codes: 0 done and committed, 1 refused by the BAPI or by its parameters' types
    (nothing was changed), or no answer came (look before you call again), 78 not allowed by the file, or no such
    system.

    Examples:

        headrace call sales.toml BAPI_SALESORDER_CHANGE '{"SALESDOCUMENT": "0000004711", "ORDER_HEADER_INX": {}}'
    """
    with reported(), quiet_logs():
        from flows.call import call as called

        text = sys.stdin.read() if parameters == "-" else parameters
        answer = called(str(file), function, _parsed(text), source)
        typer.echo(json.dumps(answer, indent=2, ensure_ascii=False, default=_plain))


def _parsed(text: str) -> dict[str, Any]:
    """The parameters, numbers exactly. Raises DataError for what is no JSON object."""
    from libcore.errors import DataError

    try:
        found = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise DataError(f"call: parameters: expected a JSON object, found {text[:60]!r}: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"call: parameters: expected a JSON object, found {text[:60]!r}")
    return found


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)

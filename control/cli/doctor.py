"""`headrace doctor`: what is amiss with a pipeline's source, and the statement that mends it."""

from __future__ import annotations

import json

import typer

from control.cli.support import AsJson, File, out, quiet_logs, reported

_STYLES = {"error": "red", "warning": "yellow", "note": "dim"}


def doctor(file: File, as_json: AsJson = False) -> None:
    """Look over a pipeline's source: rights, replica identity, slot, retention, settings, keys, long transactions.

    Changes nothing. Each finding says what was looked at, what was expected and found, and where a statement mends it,
    that statement, to be run as it stands. Exit codes: 0 no error (warnings and notes may be there), 1 an error that
    refuses the start or loses something, 78 a wrong file.

    Examples:

        headrace doctor orders.toml

        headrace doctor orders.toml --json
    """
    with reported(), quiet_logs():
        from flows.doctor import examine

        report = examine(str(file))
        if as_json:
            typer.echo(json.dumps(report.as_dict()))
        else:
            for finding in report.findings:
                out.print(f"{finding.severity:8}", style=_STYLES[finding.severity], markup=False, end="")
                out.print(f"{finding.what}: expected {finding.expected}, found {finding.found}", markup=False)
                if finding.remedy:
                    out.print(f"        {finding.remedy}", markup=False)
            counts = [sum(one.severity == kind for one in report.findings) for kind in _STYLES]
            words = ", ".join(
                f"{count} {kind}{'' if count == 1 else 's'}" for count, kind in zip(counts, _STYLES, strict=True)
            )
            out.print(f"{report.name}: {report.source}, {words}", markup=False)
        raise typer.Exit(0 if report.healthy else 1)

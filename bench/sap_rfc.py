"""sap-rfc: rows a second that `headrace run` reads of a table by RFC, by the best and by the plainest function.

The fake pyrfc stands in for the driver, in the worker's own process; its rows were made beforehand, as dictionaries of
texts are what a driver gives. No SAP system, no gateway and no network is in the number.
"""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from bench.measure import Result
from bench.sap_parts import CURRENCIES, Flow, Sums, items, measured

ROWS_MAX = 500_000
PASSWORD = "BENCH_SAP_PASSWORD"
_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "ET_DATA, GET_SORTED": ("|", {}),
    "512 characters": ("", {"et_data": False, "get_sorted": False, "wide": False}),
}
_FIELDS = (
    ("VBELN", "CHAR", 10, 0), ("POSNR", "NUMC", 6, 0), ("MATNR", "CHAR", 18, 0), ("ARKTX", "CHAR", 40, 0),
    ("WERKS", "CHAR", 4, 0), ("LGORT", "CHAR", 4, 0), ("CHARG", "CHAR", 10, 0), ("PSTYV", "CHAR", 4, 0),
    ("KWMENG", "QUAN", 15, 3), ("VRKME", "UNIT", 3, 0), ("NETPR", "CURR", 11, 2), ("NETWR", "CURR", 15, 2),
    ("WAERK", "CUKY", 5, 0), ("KPEIN", "DEC", 5, 0), ("KMEIN", "UNIT", 3, 0), ("ERDAT", "DATS", 8, 0),
    ("ERZET", "TIMS", 6, 0), ("AEDAT", "DATS", 8, 0), ("ERNAM", "CHAR", 12, 0),
)  # fmt: skip
_ORDER = ["VBELN", "POSNR", "MANDT", *(name for name, *_ in _FIELDS[2:])]
"""How the source asks for them: the key without the client first."""


def system(path: Path, rows: int, delimiter: str, settings: dict[str, Any]) -> None:
    """A SAP system with ZITEMS of so many rows, and ZNONE, the same without any."""
    from tests.doubles.sap_rfc.standard import CLIENT, Field
    from tests.doubles.sap_rfc.system import System

    with closing(System.create(path, **settings)) as made:
        for name in ("ZITEMS", "ZNONE"):
            where = {"reference_table": name, "reference_field": "WAERK"}
            fields = [Field(*one, key=at < 2, **where) for at, one in enumerate(_FIELDS)]  # type: ignore[arg-type]
            made.add_table(name, [CLIENT, *fields])
        made.write({"ZITEMS": items(rows)}, documents=False)  # type: ignore[dict-item]
        made.freeze("ZITEMS", _ORDER, delimiter)


def _pipeline(scratch: Path, path: Path, sink: str, full: bool) -> Path:
    file = scratch / "rfc.toml"
    file.write_text(
        f'name = "bench"\ntables = ["{"ZITEMS" if full else "ZNONE"}"]\n[source.sap_rfc]\nashost = "{path}"\n'
        f'client = "100"\nuser = "HEADRACE"\npasswd = "env:{PASSWORD}"\nsignal = "none"\n{sink}',
        "utf-8",
    )
    return file


def _alone(path: Path, rows: int, delimiter: str) -> float:
    """Rows a second of pages as the source asks for them, from the fake alone."""
    from tests.doubles.sap_rfc.connection import Connection

    texts: dict[str, Any] = {"USE_ET_DATA_4_RETURN": "X", "GET_SORTED": "X"} if delimiter else {}
    connection = Connection(ashost=str(path), client="100", user="HEADRACE", passwd="secret")
    began, count, after = time.perf_counter(), 0, ""
    with closing(connection):
        while count < rows:
            options = [{"TEXT": f"VBELN > '{after}'"}] if after else []
            answer = connection.call(
                "RFC_READ_TABLE", QUERY_TABLE="ZITEMS", FIELDS=[{"FIELDNAME": name} for name in _ORDER],
                OPTIONS=options, ROWCOUNT=10_000, DELIMITER=delimiter or " ", **texts,
            )  # fmt: skip
            lines = answer["ET_DATA"] or answer["DATA"] if delimiter else answer["DATA"]
            count, after = count + len(lines), str(next(iter(lines[-1].values())))[:10]
    return count / (time.perf_counter() - began)


def sap_rfc(items_: int, pairs: int, processes: int) -> list[Result]:
    """Rows a second by each function; equal where the target holds each row once and the amounts are right."""
    try:
        from tests.doubles.sap_rfc import SHIM
    except ModuleNotFoundError:
        raise SystemExit("bench: sap-rfc needs the fake in tests/: run it in a checkout") from None

    rows = min(items_, ROWS_MAX)
    environment = {PASSWORD: "secret", "PYTHONPATH": os.pathsep.join([str(SHIM), os.getcwd()])}
    truth = _truth(rows)
    results = []
    for form, (delimiter, settings) in _FORMS.items():
        with tempfile.TemporaryDirectory(prefix="sap-rfc-") as text:
            path = Path(text) / "sap.db"
            system(path, rows, delimiter, settings)
            write = partial(_pipeline, Path(text), path)
            flow = Flow(f"sap-rfc: {form}", Path(text), environment, write, truth, ("ZITEMS", "NETWR", "KWMENG"))
            results.append(measured(flow, pairs, partial(_alone, path, rows, delimiter)))
    return results


def _truth(rows: int) -> Sums:
    """Amounts are stored as if each currency had two decimals: a yen stands there as a hundredth."""
    decimals = dict(CURRENCIES)
    amounts = quantities = Decimal(0)
    for row in items(rows):
        amounts += Decimal(row["NETWR"]).scaleb(2 - decimals[row["WAERK"]])
        quantities += Decimal(row["KWMENG"])
    return Sums(rows, amounts, quantities)

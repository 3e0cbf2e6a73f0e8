"""The measures of SAP read what they say: their doubles hold the rows, and the connector brings the sums."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from bench import sap_idoc, sap_odata, sap_rfc
from bench.sap_parts import NULL, Sums, items
from connectors.sap.idoc_envelope import documents
from flows import build, reading
from libcore.change import ChangeBatch
from tests.doubles.sap_rfc import SHIM

ROWS = 300


@pytest.mark.parametrize("form", sap_rfc._FORMS)
def test_rfc_rows_have_the_sums(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were made beforehand are read as any others, by each function, and yens are shifted."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(sap_rfc.PASSWORD, "secret")
    delimiter, settings = sap_rfc._FORMS[form]
    sap_rfc.system(tmp_path / "sap.db", ROWS, delimiter, settings)
    file = str(sap_rfc._pipeline(tmp_path, tmp_path / "sap.db", NULL, True))
    pipeline = build.load(file)
    batches = [
        item for item in reading.read_all(pipeline, reading.bind(pipeline, file), file) if isinstance(item, ChangeBatch)
    ]
    rows = [row for batch in batches for row in batch.record.to_pylist()]
    found = Sums(len(rows), *(sum((row[name] for row in rows), Decimal(0)) for name in ("NETWR", "KWMENG")))
    assert found == sap_rfc._truth(ROWS)
    assert found != sap_rfc._truth(ROWS - 1)
    assert sap_rfc._alone(tmp_path / "sap.db", ROWS, delimiter) > 0


def test_entities_have_the_declared_properties() -> None:
    """Each entity has exactly the 20 properties that the metadata declares."""
    names = {name for name, *_ in sap_odata.properties()}
    assert [set(row) for row in sap_odata.entities(2)] == [names, names] and len(names) == 20


def test_idocs_are_as_many_as_they_say() -> None:
    """Packets and single posts hold the same IDocs, each once."""
    for packet in (7, 1):
        found = [one.fields["DOCNUM"] for body in sap_idoc._bodies(20, packet) for one in documents(body)]
        assert found == [f"{number:016d}" for number in range(20)]
    assert len(list(items(5))) == 5

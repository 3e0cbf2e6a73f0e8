"""What is kept of the IDocs that were received: every one that was answered with 200, also in odd company."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from connectors.sap.idoc_envelope import documents
from connectors.sap.idoc_spool import Spool
from tests.connectors.idoc_parts import flat


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_idocs_of_a_flat_post_are_told_apart_at_any_line_end(end: bytes, tmp_path: Path) -> None:
    """An IDoc that comes behind one that is known already is kept, whatever ends the lines."""
    first, second = (flat(number, "A", [("10", "PUMP", "1.000")]).replace(b"\r\n", end) for number in (1, 2))
    with closing(Spool(tmp_path, bytes_max=1 << 20, kept=1_000)) as spool:
        assert [spool.put(documents(body)) for body in (first, first + second, second)] == [1, 1, 0]
        assert [one.docnum for one in spool.waiting(0, 9, 1 << 20)] == [f"{number:016d}" for number in (1, 2)]

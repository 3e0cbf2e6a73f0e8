"""How tables of an SAP system are read: pages of keys, conditions in lines, wide rows in halves, currencies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.errors import ConfigurationError
from libcore.sapfmt_rfc import OPTION_CHARACTERS
from tests.connectors.contract_source import Followed
from tests.connectors.sap_rfc_parts import HALVES, KEYED, NARROW, PASSWORD, READERS, Sales, drained, named
from tests.doubles.sap_rfc import SHIM, functions
from tests.doubles.sap_rfc.standard import CLIENT, Field
from tests.examples import TIMES


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fake pyrfc, and the password."""
    monkeypatch.syspath_prepend(str(SHIM))
    monkeypatch.setenv(PASSWORD, "secret")
    yield
    functions.BEFORE.clear()


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sales]:
    """A system for each reader, with a table of a key of three fields."""
    made = {}
    for name, release in READERS.items():
        made[name] = Sales(tmp_path_factory.mktemp(name), **release)
        made[name].system.add_table("ZKEYED", KEYED)
    return made


TEXTS = st.text(st.sampled_from("AB'% _()é😀"), max_size=6).map(lambda text: text.strip(" "))
KEYS = st.sets(st.tuples(TEXTS, st.integers(-3, 3), st.integers(0, 3)), max_size=25)


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=8 * TIMES)
@given(keys=KEYS, chunk=st.integers(1, 6))
def test_every_key_comes_once(reader: str, shelf: dict[str, Sales], keys: set[Any], chunk: int) -> None:
    """Pages of keys of texts, numbers and digits bring every row once, by each function, whatever its order."""
    sales = shelf[reader]
    sales.system.select('DELETE FROM "t ZKEYED"')
    rows = [{"A": a, "B": b, "C": c, "V": f"{b}/{c}"} for a, b, c in keys]
    sales.system.write({"ZKEYED": rows}, documents=False)
    counts: list[int] = []
    functions.BEFORE.append(lambda name, given: counts.extend(len(row["TEXT"]) for row in given.get("OPTIONS", [])))
    followed = drained(sales.pipeline("ZKEYED", signal='"none"', chunk_rows=chunk), sales.path.parent / "state")
    functions.BEFORE.clear()
    found = {(row["A"], row["B"], int(row["C"])): row["V"] for row in named(followed, "ZKEYED")}
    assert found == {(a, b, c): f"{b}/{c}" for a, b, c in keys}
    assert followed.letters == []
    assert max(counts, default=0) <= OPTION_CHARACTERS


@pytest.mark.parametrize("version", ["{}", '{ ZHALVES = "VERSION" }'])
def test_halves_of_two_versions_are_never_put_together(version: str, tmp_path: Path) -> None:
    """Rows that change between the calls of one page come as they were at one moment, both halves of it."""
    sales = Sales(tmp_path, **NARROW)
    sales.system.add_table("ZHALVES", HALVES)
    left, changes = [f"{number:04d}" for number in range(40)], [12]

    def write(mark: int, some: list[str]) -> None:
        rows = [{"ID": one, "LEFT": f"{mark}", "RIGHT": f"{mark}", "VERSION": f"{mark}"} for one in some]
        sales.system.write({"ZHALVES": rows}, documents=False)

    def between(name: str, given: dict[str, Any]) -> None:
        if given.get("QUERY_TABLE") == "ZHALVES" and len(given["FIELDS"]) > 1 and changes[0]:
            changes[0] -= 1
            write(100 + changes[0], left[changes[0] % 3 :: 3])

    write(1, left)
    functions.BEFORE.append(between)
    file = sales.pipeline("ZHALVES", signal='"none"', chunk_rows=15, version=version)
    rows = named(drained(file, tmp_path / "state"), "ZHALVES")
    assert changes == [0]
    assert [row["ID"] for row in rows] == left
    assert [row for row in rows if row["LEFT"] != row["RIGHT"]] == []


def test_a_row_that_goes_between_two_calls(tmp_path: Path) -> None:
    """A row deleted when one half of it was read is not there; its neighbours are."""
    sales = Sales(tmp_path, **NARROW)
    sales.system.add_table("ZHALVES", HALVES)
    sales.system.write({"ZHALVES": [{"ID": str(number), "LEFT": "x"} for number in range(5)]}, documents=False)
    seen: list[str] = []

    def between(name: str, given: dict[str, Any]) -> None:
        if given.get("QUERY_TABLE") == "ZHALVES" and len(given["FIELDS"]) > 1:
            seen.append(name)
            if len(seen) == 2:
                sales.system.write({}, {"ZHALVES": [{"ID": "3"}]}, documents=False)

    functions.BEFORE.append(between)
    rows = named(drained(sales.pipeline("ZHALVES", signal='"none"'), tmp_path / "state"), "ZHALVES")
    assert [row["ID"] for row in rows] == ["0", "1", "2", "4"]


def test_a_dictionary_that_may_only_be_read(tmp_path: Path) -> None:
    """Where DDIF_FIELDINFO_GET may not be called, DD03L tells the same types and keys."""
    sales = Sales(tmp_path)
    sales.order(1, NETWR="12.50")
    before = drained(sales.pipeline("VBAK", signal='"none"'), tmp_path / "before")
    sales.system.set(denied_functions=["DDIF_FIELDINFO_GET"])
    after = drained(sales.pipeline("VBAK", signal='"none"'), tmp_path / "after")
    assert named(before, "VBAK") == named(after, "VBAK") != []


def test_a_currency_that_nobody_knows(tmp_path: Path) -> None:
    """An amount whose currency is in no row that can be found is refused, until the file says where it is."""
    sales = Sales(tmp_path)
    fields = [CLIENT, Field("ID", "CHAR", 4, key=True),
              Field("WRBTR", "CURR", 13, 2, reference_table="T001", reference_field="WAERS")]  # fmt: skip
    sales.system.add_table("ZAMOUNT", fields)
    t001 = [CLIENT, Field("BUKRS", "CHAR", 4, key=True), Field("WAERS", "CUKY", 5)]
    sales.system.add_table("T001", t001)
    sales.system.write({"ZAMOUNT": [{"ID": "1", "WRBTR": "1.00"}]}, documents=False)
    with pytest.raises(ConfigurationError, match=r'ZAMOUNT.WRBTR.*T001-WAERS.*"=EUR"'):
        Followed(sales.pipeline("ZAMOUNT", signal='"none"'), tmp_path / "state")
    amounts = []
    for number, choice in enumerate(("=JPY", "stored")):
        file = sales.pipeline("ZAMOUNT", signal='"none"', currency=f'{{ "ZAMOUNT.WRBTR" = "{choice}" }}')
        amounts += [str(row["WRBTR"]) for row in named(drained(file, tmp_path / str(number)), "ZAMOUNT")]
    assert amounts == ["100.00000", "1.00000"]


def test_no_row_is_read_in_business_hours(tmp_path: Path) -> None:
    """In the hours in which the guardian lets no snapshot be read, no table is; the flow waits."""
    sales = Sales(tmp_path)
    sales.order(1)
    hours = '{ begin = "00:00", end = "23:59:59.999999", zone = "UTC", days = [%s] }'
    days = ", ".join(f'"{day}"' for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
    file = sales.pipeline("VBAK", guardian="{ business_hours = %s }" % (hours % days))
    followed = Followed(file, tmp_path / "state")
    reads: list[str] = []
    functions.BEFORE.append(lambda name, given: reads.append(given.get("QUERY_TABLE", name)))
    while "STFC_CONNECTION" not in reads:  # the position is taken
        followed.epoch()
    for _ in range(20):
        assert followed.epoch() == 0
    followed.close()
    assert "VBAK" not in reads


def test_names_and_patterns(tmp_path: Path) -> None:
    """Tables are found by patterns in the dictionary, or in what `names` picks of it; another name is refused."""
    sales = Sales(tmp_path)
    followed = drained(sales.pipeline("VBA*", signal='"none"', names='["VB*", "T000"]'), tmp_path / "state")
    assert followed.letters == []
    assert sales.system.calls["DDIF_FIELDINFO_GET"] >= 2
    with pytest.raises(ConfigurationError, match="VBRK"):
        Followed(sales.pipeline("VBRK"), tmp_path / "state")


def test_rows_of_another_client_are_not_there(tmp_path: Path) -> None:
    """Only the logon's client is read, and its number stands in the key."""
    sales = Sales(tmp_path)
    sales.order(1)
    sales.system.write({"VBAK": [{"MANDT": "200", "VBELN": "0000000009"}]}, documents=False)
    rows = named(drained(sales.pipeline("VBAK"), tmp_path / "state"), "VBAK")
    assert [(row["MANDT"], row["VBELN"]) for row in rows] == [("100", "0000000001")]


def test_a_table_that_gained_a_field(tmp_path: Path) -> None:
    """The state tells with which shape a table was read: at a start with another one all of its rows come again."""
    sales = Sales(tmp_path)
    sales.order(1)
    followed = Followed(sales.pipeline("VBAK"), tmp_path / "state")
    followed.until(lambda: len(named(followed, "VBAK")) == 1)
    sales.system.add_field("VBAK", Field("VKORG", "CHAR", 4))
    for _ in range(5):
        followed.epoch()
    followed.crash()
    followed.until(lambda: "VKORG" in followed.columns["VBAK"])
    followed.close()
    assert json.dumps(named(followed, "VBAK")[0]["VKORG"]) == '""'

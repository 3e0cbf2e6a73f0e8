"""SAP OData beyond the contract: when a delta link may be asked for, what is lost and found again, who is spared."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from connectors.base.background import Piece
from connectors.base.database import SourceContext
from connectors.base.guardian import BusinessHours, Guardian, Pace
from connectors.base.items import Truncate
from connectors.formats.binding import TopicBinding
from connectors.sap.http import Gateway
from connectors.sap.odata_config import SapODataConfig
from connectors.sap.odata_reader import ODataReader
from connectors.sap.odata_source import SapODataChanges
from libcore.errors import ConfigurationError, FatalError, TransientError
from tests.connectors.contract_source import Followed, some_rows
from tests.connectors.sap_odata_parts import ODataSystem
from tests.doubles.sap.gateway import GatewayDouble
from tests.doubles.sap.render import PATHS
from tests.examples import TIMES

ITEMS = "ERP/items"


@pytest.fixture(scope="module")
def server() -> Iterator[GatewayDouble]:
    """A gateway in a process of its own."""
    with GatewayDouble() as started:
        yield started


@pytest.fixture
def system(server: GatewayDouble, tmp_path: Path) -> ODataSystem:
    """The gateway with nothing in it."""
    server.pull("reset", {})
    return ODataSystem(server, tmp_path)


def config(system: ODataSystem, **settings: Any) -> SapODataConfig:
    """The source's settings."""
    told = {"url": system.gateway.url, "services": {"ERP": PATHS[2]}, "page_rows": 40, "poll_s": 0.01}
    return SapODataConfig(**(told | settings))


def reader(
    system: ODataSystem, state: tuple[Any, ...] = (), *, until_end: bool = False, **settings: Any
) -> ODataReader:
    """A reader of `items`."""
    told = config(system, **settings)
    changes = SapODataChanges(told, SourceContext(flow="sap"))
    (table,) = changes.describe([ITEMS])
    entity = changes._entity(ITEMS)
    return ODataReader(
        Gateway(told, "source.sap_odata"), told, entity, table.table, TopicBinding(ITEMS), state,
        pace=Pace(told.guardian), flow="sap", until_end=until_end,
    )  # fmt: skip


def taken(pieces: Iterator[Piece | None], count: int) -> list[Piece]:
    """The next pieces, without the waits between them."""
    return list(islice((piece for piece in pieces if piece is not None), count))


def loaded(source: ODataReader) -> tuple[Iterator[Piece | None], Piece]:
    """A reader's pieces behind its load, which is durable, and the load."""
    pieces = source.pieces()
    (load,) = taken(pieces, 1)
    source.durable(load.state)
    return pieces, load


def tokens(system: ODataSystem) -> list[str]:
    """Delta tokens that were asked for, in order."""
    return [one.rpartition("!deltatoken=")[2].strip("'") for one in system.gateway.asked() if "!deltatoken" in one]


def test_a_delta_link_is_asked_for_only_when_it_is_durable(system: ODataSystem) -> None:
    """Asking confirms: behind a load, and behind each package, the next link waits until its state is durable."""
    system.write(some_rows(Random(1), 0, 60))
    source = reader(system)
    pieces = source.pieces()
    load = taken(pieces, 2)
    system.gateway.asked()
    system.write({7: (7, "changed", None)})
    assert list(islice(pieces, 5)) == [None] * 5
    assert tokens(system) == []
    source.durable(load[0].state)
    assert list(islice(pieces, 5)) == [None] * 5
    source.durable(load[1].state)
    (package,) = taken(pieces, 1)
    assert (package.rows, len(tokens(system))) == (1, 1)
    time.sleep(0.02)
    assert list(islice(pieces, 5)) == [None] * 5
    source.durable(package.state)
    (empty,) = taken(pieces, 1)
    assert (empty.rows, len(tokens(system))) == (0, 1)


def test_a_package_that_was_lost_comes_again(system: ODataSystem) -> None:
    """A crash behind a package that is not durable: a new reader asks by the same token, and gets the same rows."""
    system.write(some_rows(Random(1), 0, 10))
    first = reader(system)
    pieces, load = loaded(first)
    system.write({3: (3, "again", None)}, (5,))
    (lost,) = taken(pieces, 1)
    system.write({4: (4, "later", None)})
    second = reader(system, load.state)
    second.durable(load.state)
    (same,) = taken(second.pieces(), 1)
    used = tokens(system)
    assert used == [used[0]] * 2
    assert same.items[0].record.select(["id", "name"]).equals(lost.items[0].record.select(["id", "name"]))
    assert same.state == lost.state


def test_an_empty_package_that_comes_again_is_not_the_end(system: ODataSystem) -> None:
    """Up to the end: a link whose package was made before, and had no row, is not where the changes of now stand."""
    system.write(some_rows(Random(1), 0, 10))
    first = reader(system)
    pieces, load = loaded(first)
    (empty,) = taken(pieces, 1)
    system.write({3: (3, "later", None)}, (5,))
    last = reader(system, load.state, until_end=True)
    last.durable(load.state)
    found = []
    for piece in last.pieces():
        if piece is not None:
            last.durable(piece.state)
            found += [row for item in piece.items for row in item.record.column("id").to_pylist()]
    assert (empty.rows, sorted(found)) == (0, [3, 5])


def test_answers_that_are_lost_on_the_way(system: ODataSystem, tmp_path: Path) -> None:
    """The server made the package and its answer did not arrive: asked again, nothing is missing or doubled."""
    system.write(some_rows(Random(2), 0, 100))
    system.gateway.fault("$skiptoken", late=True, count=2)
    followed = Followed(system.pipeline(), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    system.gateway.fault("!deltatoken", late=True, count=2)
    system.write(some_rows(Random(3), 90, 30), (1, 2, 3))
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert len(followed.rows()) == 117


def test_an_expired_token_loads_anew(system: ODataSystem, tmp_path: Path) -> None:
    """The queue's retention is over: the table is emptied and loaded anew, so rows deleted meanwhile are gone."""
    system.write(some_rows(Random(4), 0, 90))
    followed = Followed(system.pipeline(), tmp_path / "state")
    followed.until(lambda: followed.rows() == system.rows())
    system.gateway.pull("expire", {})
    system.write(some_rows(Random(5), 80, 20), tuple(range(40)))
    followed.until(lambda: followed.rows() == system.rows())
    followed.crash()
    system.write({}, (50,))
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert len(followed.rows()) == 59


@pytest.mark.parametrize("seed", range(2 * TIMES))
def test_whatever_happens_both_sides_end_equal(server: GatewayDouble, tmp_path: Path, seed: int) -> None:
    """Writes, lost answers, errors, forgotten pages, expired tokens and crashes in any order, by V2 and V4."""
    server.pull("reset", {})
    random, system = Random(seed), ODataSystem(server, tmp_path, 2 if seed % 2 else 4)
    system.write(some_rows(random, 0, 60))
    followed = Followed(system.pipeline(page_rows=random.choice([7, 40]), batch_rows_max=15), tmp_path / "state")
    events: list[Callable[[], object]] = [
        lambda: system.write(
            some_rows(random, random.randrange(80), 9), tuple(random.sample(sorted(system.rows()), 5))
        ),
        lambda: server.fault("items", late=True, alone=True),
        lambda: server.fault("items", random.choice([429, 503, 500, 423]), headers={"Retry-After": "0"}, alone=True),
        lambda: server.pull(random.choice(["expire", "forget", "forget"]), {}),
        followed.crash,
    ]
    for _ in range(30):
        random.choice(events)()
        for _ in range(random.randrange(6)):
            followed.epoch()
            time.sleep(0.005)
    followed.until(lambda: followed.rows() == system.rows())
    followed.close()
    assert followed.letters == []


def test_a_load_whose_pages_are_forgotten_begins_anew(system: ODataSystem) -> None:
    """A page's link that the server knows no more: what was loaded is emptied first, as some of it may be gone."""
    system.write(some_rows(Random(6), 0, 100))
    (first,) = taken(reader(system).pieces(), 1)
    system.gateway.pull("forget", {})
    again = taken(reader(system, first.state).pieces(), 4)
    assert [type(piece.items[0]) is Truncate for piece in again] == [True, False, False, False]
    assert [piece.rows for piece in again[1:]] == [40, 40, 20]


def test_a_package_whose_pages_are_forgotten_begins_again(system: ODataSystem) -> None:
    """In a package the token brings all its pages again: nothing is emptied."""
    system.write(some_rows(Random(6), 0, 1))
    source = reader(system)
    pieces, _ = loaded(source)
    system.write(some_rows(Random(7), 0, 100))
    (first,) = taken(pieces, 1)
    system.gateway.pull("forget", {})
    again = taken(reader(system, first.state).pieces(), 3)
    assert [piece.rows for piece in again] == [40, 40, 20]


def test_other_columns_load_anew(system: ODataSystem) -> None:
    """A pipeline that wants other columns than before loads the table again; the same columns go on."""
    system.write(some_rows(Random(6), 0, 10))
    source = reader(system)
    (load,) = taken(source.pieces(), 1)
    changed = (load.state[0], "another shape", *load.state[2:])
    assert type(taken(reader(system, changed).pieces(), 1)[0].items[0]) is Truncate
    assert next(reader(system, load.state).pieces()) is None


def test_a_set_without_deltas(system: ODataSystem) -> None:
    """A last page without a delta link, or a refusal to track, says what to do; `once` needs no deltas."""
    system.write(some_rows(Random(8), 0, 5))
    system.gateway.fault("/items", 200, body='{"d":{"results":[]}}')
    with pytest.raises(ConfigurationError, match=r'expected a delta link on its last page.*once = \["ERP/items"\]'):
        next(reader(system).pieces())
    system.gateway.fault("/items", 400, body='{"error":{"message":{"value":"Delta is not supported for it"}}}')
    with pytest.raises(ConfigurationError, match=r'HTTP 400.*once = \["ERP/items"\]'):
        next(reader(system).pieces())
    pieces = [piece for piece in reader(system, once=(ITEMS,), until_end=True).pieces() if piece is not None]
    assert sum(piece.rows for piece in pieces) == 5
    assert not any("track-changes" in one or "deltatoken" in one for one in system.gateway.asked())


def test_more_rows_than_an_epoch_takes(system: ODataSystem) -> None:
    """A page beyond batch_rows_max comes in pieces; only the last one's state goes behind the page."""
    system.write(some_rows(Random(9), 0, 30))
    pieces = taken(reader(system, batch_rows_max=12).pieces(), 3)
    assert [piece.rows for piece in pieces] == [12, 12, 6]
    assert [piece.state[3] != "" for piece in pieces] == [False, False, True]
    # of a first page whose end is not durable, rows are in the target that no link goes on behind
    assert type(taken(reader(system, pieces[0].state).pieces(), 1)[0].items[0]) is Truncate


def test_the_guardian_holds_loads_back(system: ODataSystem) -> None:
    """Outside of its hours no page is asked for; a rate spreads them; changes are read in any case."""
    system.write(some_rows(Random(10), 0, 80))
    closed = BusinessHours(
        begin="00:00", end="23:59:59.999", zone="UTC", days=("mon", "tue", "wed", "thu", "fri", "sat", "sun")
    )
    system.gateway.asked()
    source = reader(system, guardian=Guardian(business_hours=closed))
    system.gateway.asked()
    assert list(islice(source.pieces(), 5)) == [None] * 5
    assert system.gateway.asked() == []
    slow = reader(system, guardian=Guardian(rows_per_second_max=400)).pieces()
    begun = time.monotonic()
    assert [piece.rows for piece in taken(slow, 2)] == [40, 40]
    assert time.monotonic() - begun > 0.09


def test_names_and_notes(system: ODataSystem) -> None:
    """Every entity set is a table but ODP's lists of delta links; an unknown one is refused; types are exact."""
    changes = SapODataChanges(config(system), SourceContext())
    assert sorted(changes.names()) == ["ERP/idle", ITEMS]
    (table,) = changes.describe([ITEMS])
    assert [str(column.type) for column in table.table.columns] == ["int32", "string", "decimal(18,4)"]
    assert (table.table.key, table.partition) == (("id",), ITEMS)
    with pytest.raises(ConfigurationError, match="expected an entity set 'ERP/other'"):
        changes.describe(["ERP/other"])


def test_doctor(system: ODataSystem) -> None:
    """Each set's queue and each refusal is told, and which routes are permitted: ODP by RFC is not."""
    found = SapODataChanges(config(system), SourceContext())
    tables = found.describe([ITEMS])
    told = [str(finding) for finding in found.doctor(tables)]
    assert [one.partition(":")[0] for one in told] == ["warning", "warning", "note", "note", "note", "note"]
    assert "url: expected https" in told[0] and "login: expected user" in told[1]
    assert "found entity set DeltaLinksOfitems" in told[2] and "ODQMON" in told[3]
    assert "ADD and ADDD send differences" in told[4]
    assert "not ODP by RFC (RODPS_REPL_*, SAP Note 3255746), found OData with delta queues (ERP)" in told[5]
    system.gateway.fault("/items", 403, body='{"error":{"code":"S_SERVICE","message":{"value":"No authorization"}}}')
    worst = found.doctor(tables)[0]
    assert (worst.severity, "No authorization" in worst.found) == ("error", True)


def test_a_service_that_is_not_there(system: ODataSystem) -> None:
    """A service that the system does not know is named with its path and the transaction that activates it."""
    wrong = config(system, services=("ZNONE",))
    with pytest.raises(ConfigurationError, match=r"services\.ZNONE: .*/sap/opu/odata/sap/ZNONE.*MAINT_SERVICE"):
        SapODataChanges(wrong, SourceContext()).names()


def test_drop_ends_the_subscription(system: ODataSystem) -> None:
    """What a flow left at the server goes, and only that; a second time there is nothing to end."""
    system.write(some_rows(Random(1), 0, 5))
    (load,) = taken(reader(system).pieces(), 1)
    changes = SapODataChanges(config(system), SourceContext())
    assert (changes.drop(), changes.drop()) == (["subscription to ERP/items"], [])
    again = reader(system, load.state)
    again.durable(load.state)
    assert type(taken(again.pieces(), 1)[0].items[0]) is Truncate


def test_errors_have_the_names_that_a_runner_knows(system: ODataSystem) -> None:
    """What leaves the source is one of the tree's own classes: a refusal is fatal, a busy server is not."""
    for status, kind in ((405, FatalError), (503, TransientError)):
        system.gateway.fault("/items", status)
        with pytest.raises(kind) as raised:
            next(reader(system).pieces())
        system.gateway.fault("$metadata", 503)
        with pytest.raises(TransientError) as early:
            SapODataChanges(config(system), SourceContext()).names()
        assert (type(raised.value), type(early.value)) == (kind, TransientError)


def test_another_versions_state(system: ODataSystem) -> None:
    """A recovery store of another version is refused instead of misread."""
    with pytest.raises(ConfigurationError, match="expected recovery state of version 1"):
        reader(system, (2, "", "load"))


def test_a_system_that_is_away(system: ODataSystem) -> None:
    """Nobody at the address: try again, as it may come back."""
    away = config(system, url="http://127.0.0.1:9")
    with pytest.raises(TransientError, match=r"source\.sap_odata"):
        SapODataChanges(away, SourceContext()).names()

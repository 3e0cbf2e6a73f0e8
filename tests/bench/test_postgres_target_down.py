"""The measure of a target that is away, for a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import postgres_target_down
from bench.postgres_target_down import target_down
from control.embedded import EmbeddedPostgres

pytestmark = pytest.mark.real


def test_the_flow_goes_on_behind_the_targets_return(postgres_server: EmbeddedPostgres, tmp_path: Path) -> None:
    """All that was written while the target was away arrives, and the slot has kept some log, below the bound."""
    source = postgres_server.create_database("down_source")
    try:
        with EmbeddedPostgres(settings={"fsync": False}) as target:
            result = target_down(tmp_path, source, target, 1.0, warm_seconds=0.2)
        assert result.equal
        assert 0 < result.value * 1e6 < postgres_target_down.RETAINED_MAX
        assert result.ratio > 1
    finally:
        postgres_server.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'down_source'"
        )
        postgres_server.drop_database("down_source")

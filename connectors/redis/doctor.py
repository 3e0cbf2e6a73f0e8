"""What is amiss with a Redis server and its streams: version, persistence, eviction, trimming against the position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from connectors.base.database import Finding
from connectors.redis.server import Extent, parsed, shown

_ORDER = {"error": 0, "warning": 1, "note": 2}


def examine(client: Any, group: str, streams: Sequence[str]) -> list[Finding]:
    """All findings, worst first."""
    found = list(_server(client))
    for stream in streams:
        found += _stream(client, group, stream)
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _server(client: Any) -> Iterator[Finding]:
    about = client.info()
    version = str(about["redis_version"])
    if int(version.partition(".")[0]) < 7:
        yield Finding("error", "server", "Redis 7.0 or newer: older ones do not tell what was trimmed", version)
    if not int(about.get("aof_enabled", 0)):
        yield Finding(
            "warning", "appendonly", "yes, so that entries outlive the server", "no: after a crash the stream ends "
            "earlier, and a flow that has read further stops", "CONFIG SET appendonly yes",
        )  # fmt: skip
    policy = str(about.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys") and int(about.get("maxmemory", 0)):
        yield Finding(
            "error", "maxmemory-policy", "one that spares keys without a lifetime",
            f"{policy}: a full server deletes whole streams", "CONFIG SET maxmemory-policy noeviction",
        )  # fmt: skip


def _stream(client: Any, group: str, stream: str) -> Iterator[Finding]:
    what = f"stream {stream}"
    try:
        about = client.xinfo_stream(stream)
        groups = {one["name"].decode(): one for one in client.xinfo_groups(stream)}
    except ResponseError as error:
        yield Finding("error", what, "a stream", str(error))
        return
    ours = groups.get(group)
    if ours is None:
        yield Finding("note", what, f"group {group}, or a first start that makes it", "none yet")
        return
    read, number = parsed(ours["last-delivered-id"]), ours.get("entries-read")
    if number is not None and (lost := Extent(about).lost_behind(read, int(number))):
        yield Finding(
            "error", what, f"entries behind {shown(read)}", f"trimmed or deleted unread: {lost}",
            'on_gap = "earliest" in [source.redis]; -- or load the target anew',
        )  # fmt: skip
    if strangers := sorted(
        one["name"].decode() for one in client.xinfo_consumers(stream, group) if one["name"] != b"headrace"
    ):
        yield Finding(
            "error", what, f"group {group} for this flow alone", f"other consumers: {', '.join(strangers)}",
            f"XGROUP DELCONSUMER {stream} {group} {strangers[0]}",
        )  # fmt: skip

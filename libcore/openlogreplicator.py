"""OpenLogReplicator's JSON, one topic for all tables, to messages of each table: one call a batch, the work in C.

What a message may hold and the precedence of faults stand in include/libcore/openlogreplicator.h.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c
from libcore.decode_types import ErrorCode
from libcore.openlogreplicator_types import CHANGES, Split, check_tables

__all__ = ["CHANGES", "Split", "split"]


def split(tables: Sequence[str], messages: pa.RecordBatch, *, level: int = 0) -> Split:
    """Split messages into the changes of the tables that are asked for.

    Args:
        tables: "OWNER.TABLE", sorted by their bytes in UTF-8.
        messages: columns key (binary), value (binary, nullable), offset int64 from 0 up, timestamp_ms int64.
        level: for tests: 0 the fastest code this machine runs, 1 scalar, 2 SSE4.2, 3 AVX2.
    Returns: each change as an envelope that libcore.decode reads with the position "oracle": the offset, then the
        change's place in its message.
    Raises: ConfigurationError for tables that break this, CapacityError where the changes pass 2^31-1 bytes,
        MemoryError.
    """
    check_tables(tables)
    if IMPLEMENTATION != "c":
        from libcore.reference import openlogreplicator as reference

        return reference.split(tables, messages)
    ffi, lib = arrow_c.ffi, arrow_c.lib
    names = [ffi.from_buffer(name.encode()) for name in tables]
    asked = ffi.new("lc_olr_table[]", [(ffi.cast("const char *", name), len(name)) for name in names])
    out, error = ffi.new("lc_olr_split *"), ffi.new("lc_error *")
    with arrow_c.exported(messages) as array:
        code = lib.lc_openlogreplicator_split(asked, len(names), array, level, out, error)
    arrow_c.check(code, error)
    try:
        return Split(
            changes=arrow_c.imported(ffi.addressof(out, "batch"), CHANGES),
            counts=list(out.counts[0 : len(names)]),
            others=out.others,
            ddl=[out.ddl[i] for i in range(out.ddl_count)],
            errors=[
                (out.errors[i].message, out.errors[i].position, ErrorCode(out.errors[i].code))
                for i in range(out.error_count)
            ],
        )
    finally:
        lib.lc_openlogreplicator_free(out)

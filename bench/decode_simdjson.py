"""decode-simdjson: the C envelope decoder beside simdjson's on-demand API in C++, one core, the same messages.

peers/simdjson_columns.cpp extracts the same fields to the same columns, which are compared byte for byte here. Both
give fresh buffers for every batch of 20,000 messages. Ours ends as an Arrow record in Python, the peer as plain buffers
in C++. The peer is compiled at the first use, where a C++ compiler and Debian's libsimdjson-dev are; elsewhere the
measure says what it lacks and ends. The rates are of processor time.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench import generate
from bench.decode import BATCH, in_batches, messages, plan
from bench.generate import cache_root
from bench.measure import Result, in_turn, memory_bytes, one_core, say
from libcore import memory

AIM = 0.9  # of simdjson's rate
SOURCE = Path(__file__).parent / "peers" / "simdjson_columns.cpp"
PADDING = 64  # SIMDJSON_PADDING: readable bytes behind the last message
MESSAGES = 200_000
_POINTERS = (
    "order_id", "line_no", "created_at", "ts", "quantity", "sku_offsets", "note_offsets", "unit_price", "discount",
    "sku", "note", "op", "position",
)  # fmt: skip


class _Columns(ctypes.Structure):
    """The peer's `struct columns`."""

    _fields_ = [
        ("rows", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        ("valid", ctypes.c_void_p * 8),
    ]


def compiler() -> str | None:
    """The C++ compiler, or None where it or simdjson is not there."""
    return shutil.which("g++") if Path("/usr/include/simdjson.h").exists() else None


def library(compiler: str) -> Any:
    """The peer, compiled into the measures' cache at the first call. Raises SystemExit with the compiler's words."""
    flags = ["-std=c++17", "-O3", "-march=native", "-DNDEBUG", "-fPIC", "-shared", "-fvisibility=hidden"]
    version = subprocess.run([compiler, "--version"], stdout=subprocess.PIPE, check=True).stdout
    cpu = Path("/proc/cpuinfo").read_bytes().partition(b"flags")[2].partition(b"\n")[0]  # -march=native is for it
    digest = hashlib.sha256(b"\0".join([SOURCE.read_bytes(), " ".join(flags).encode(), version, cpu])).hexdigest()[:12]
    built = cache_root() / f"simdjson-{digest}.so"
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
            fresh = Path(scratch) / "peer.so"
            command = [compiler, *flags, "-o", str(fresh), str(SOURCE), "-lsimdjson"]
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise SystemExit(f"decode-simdjson: {SOURCE.name} could not be compiled:\n{done.stderr[-4000:]}")
            os.replace(fresh, built)
    return _declared(ctypes.CDLL(str(built)))


def _declared(library: Any) -> Any:
    library.simdjson_code.restype = ctypes.c_char_p
    library.extractor_new.restype = ctypes.c_void_p
    library.extractor_free.argtypes = [ctypes.c_void_p]
    library.columns_free.argtypes = [ctypes.POINTER(_Columns)]
    library.columns_free.restype = None
    library.extract.argtypes = [
        ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_char_p, ctypes.POINTER(_Columns),
    ]  # fmt: skip
    library.extract.restype = ctypes.c_int64
    return library


class Extractor:
    """The peer over a batch of messages, piece by piece."""

    def __init__(self, record: pa.RecordBatch, compiler: str) -> None:
        self._library = library(compiler)
        self.code = self._library.simdjson_code().decode()
        values = record.column(1)
        size = len(values.buffers()[2])
        # its own copy, because simdjson reads behind the last message
        self._data = ctypes.create_string_buffer(values.buffers()[2].to_pybytes(), size + PADDING)
        self._offsets = values.buffers()[1]
        self._rows = record.num_rows
        self._parser = self._library.extractor_new()

    def pieces(self) -> Iterator[_Columns]:
        """What each piece gives; its memory goes with the next one."""
        last = ctypes.create_string_buffer(32)
        for first in range(0, self._rows, BATCH):
            found = _Columns()
            count = min(BATCH, self._rows - first)
            offsets = self._offsets.address + 4 * first
            bad = self._library.extract(
                self._parser, ctypes.addressof(self._data), offsets, count, last, ctypes.byref(found)
            )
            try:
                if bad >= 0:
                    raise SystemExit(f"decode-simdjson: the peer cannot read message {first + bad}")
                yield found
            finally:
                self._library.columns_free(ctypes.byref(found))

    def run(self) -> int:
        """All of it; the rows."""
        return sum(found.rows for found in self.pieces())

    def close(self) -> None:
        """Give the parser back."""
        self._library.extractor_free(self._parser)


def as_record(found: _Columns, schema: pa.Schema) -> pa.RecordBatch:
    """A copy of what the peer found, by our decoder's schema."""
    rows, bits = found.rows, [pa.foreign_buffer(valid, found.rows // 8 + 1) for valid in found.valid]

    def whole(address: int, width: int) -> pa.Buffer:
        return pa.foreign_buffer(address, rows * width)

    def text(offsets: int, data: int) -> list[pa.Buffer]:
        ends = pa.foreign_buffer(offsets, 4 * (rows + 1))
        size = pa.Int32Array.from_buffers(pa.int32(), rows + 1, [None, ends])[rows].as_py()
        return [ends, pa.foreign_buffer(data, size)]

    buffers = [
        [bits[0], whole(found.order_id, 8)], [bits[1], whole(found.line_no, 8)],
        [bits[2], *text(found.sku_offsets, found.sku)], [bits[3], whole(found.quantity, 4)],
        [bits[4], whole(found.unit_price, 16)], [bits[5], whole(found.discount, 16)],
        [bits[6], *text(found.note_offsets, found.note)], [bits[7], whole(found.created_at, 8)],
        [None, whole(found.op, 1)], [None, whole(found.position, 32)], [None, whole(found.ts, 8)],
    ]  # fmt: skip
    arrays = [pa.Array.from_buffers(field.type, rows, parts) for field, parts in zip(schema, buffers, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema).take(pa.array(range(rows), pa.int32()))


def same(record: pa.RecordBatch, peer: Extractor) -> bool:
    """Whether both give the same columns, in every batch."""
    from libcore.decode import DecodeState, decode_envelopes

    wanted, state = plan(), DecodeState()
    for number, found in enumerate(peer.pieces()):
        decoded = decode_envelopes(wanted, record.slice(number * BATCH, BATCH), 0, state)
        state = decoded.state
        if decoded.errors or not as_record(found, decoded.record.schema).equals(decoded.record):
            return False
    return True


def decode_simdjson(items: int, pairs: int, processes: int) -> Result | list[Result]:
    """Events a second of both on one core, in turn; nothing where the peer cannot be built."""
    found = compiler()
    if found is None:
        print("decode-simdjson: left out, it needs g++ and Debian's libsimdjson-dev", file=sys.stderr, flush=True)
        return []
    one_core()
    memory.keep_freed(64 << 20)  # as a worker does
    record = messages(generate.cached(items), limit=MESSAGES)
    peer = Extractor(record, found)
    equal = same(record, peer)
    calls: dict[str, Callable[[], object]] = {"ours": in_batches(record, BATCH), "simdjson": peer.run}
    taken = in_turn(calls, pairs)
    peer.close()
    say("decode-simdjson", record.num_rows, "events", taken)
    print(f"  simdjson runs its {peer.code} code; the bar is {AIM} of it", file=sys.stderr, flush=True)
    ours, theirs = taken["ours"].processor_s, taken["simdjson"].processor_s
    used = memory_bytes(os.getpid()) / 1e6
    return Result(
        "decode-simdjson", record.num_rows / ours, "events/s", "simdjson on-demand in C++, 1 core",
        record.num_rows / theirs, theirs / ours, used, equal,
    )  # fmt: skip

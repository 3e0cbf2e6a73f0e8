"""A user's own C function over whole batches: loaded from a shared library, and what it gives checked before use.

The contract stands in include/libcore/user_function.h; a worked example in flows/examples/pallets.c.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from libcore.errors import ConfigurationError, DataError, FatalError

ERROR_BYTES = 256
ROWS_MAX = 2**31 - 2

_ARROW = """
struct ArrowSchema {
  const char *format; const char *name; const char *metadata; int64_t flags; int64_t n_children;
  struct ArrowSchema **children; struct ArrowSchema *dictionary; void (*release)(struct ArrowSchema *);
  void *private_data;
};
struct ArrowArray {
  int64_t length; int64_t null_count; int64_t offset; int64_t n_buffers; int64_t n_children; const void **buffers;
  struct ArrowArray **children; struct ArrowArray *dictionary; void (*release)(struct ArrowArray *);
  void *private_data;
};
"""


class UserFunction:
    """One function of a shared library, ready to be called; its library stays loaded for the process's life.

    Args:
        library: the shared library's path, absolute.
        name: the function's.
        takes: the columns that it gets, in order. gives: those that it must give.
    Raises: ConfigurationError where library or function are not to be had.
    """

    def __init__(self, library: str, name: str, takes: pa.Schema, gives: pa.Schema) -> None:
        import cffi

        if not name.isidentifier() or not name.isascii():
            raise ConfigurationError(f"{library}: expected the name of a C function, found {name!r}")
        self.name, self._takes, self._gives = f"{library.rpartition('/')[2]}:{name}", takes, gives
        self._ffi = cffi.FFI()
        arguments = "struct ArrowArray *, struct ArrowSchema *, struct ArrowArray *, struct ArrowSchema *, char *"
        self._ffi.cdef(f"{_ARROW} int {name}({arguments});")
        try:
            self._library = self._ffi.dlopen(library)
            self._function = getattr(self._library, name)
        except (OSError, AttributeError) as error:
            raise ConfigurationError(f"{library}: expected a shared library with {name}(), found: {error}") from error

    def __call__(self, record: pa.RecordBatch) -> pa.RecordBatch:
        """Call the function on rows.

        Args:
            record: exactly the columns of `takes`.
        Returns: the columns of `gives`, as many rows, in memory of ours.
        Raises: DataError where the function says so, or where a value is none of its type; FatalError where what comes
            back is no batch of `gives`, or has another number of rows.
        """
        assert record.schema.equals(self._takes), (record.schema, self._takes)
        ffi = self._ffi
        given, schema = ffi.new("struct ArrowArray *"), ffi.new("struct ArrowSchema *")
        out, out_schema = ffi.new("struct ArrowArray *"), ffi.new("struct ArrowSchema *")
        error = ffi.new(f"char[{ERROR_BYTES}]")
        rows, memory = _own(record)
        rows._export_to_c(_address(ffi, given), _address(ffi, schema))
        try:
            code = self._function(given, schema, out, out_schema, error)
        finally:
            for each in (given, schema):
                if each.release != ffi.NULL:
                    each.release(each)
        if code != 0:
            text = ffi.unpack(error, ERROR_BYTES).partition(b"\0")[0].decode("utf-8", "replace")
            raise DataError(text or f"{self.name} gave code {code} and no error")
        self._check_schema(out_schema)
        self._check_array(out, record.num_rows, range(memory.address, memory.address + memory.size))
        made = pa.RecordBatch._import_from_c(_address(ffi, out), _address(ffi, out_schema))
        try:
            made.validate(full=True)
        except pa.ArrowInvalid as invalid:
            raise DataError(f"{self.name} gave a value that is none of its type: {invalid}") from invalid
        return _own(made)[0]

    def _check_schema(self, schema: Any) -> None:
        ffi = self._ffi
        if schema.release == ffi.NULL:
            raise self._refused("out_schema with a release callback", "none")
        if (found := _text(ffi, schema.format)) != "+s":
            raise self._refused("a struct array (+s)", found)
        if schema.n_children != len(self._gives) or schema.children == ffi.NULL:
            raise self._refused(f"{len(self._gives)} columns", schema.n_children)
        for index, field in enumerate(self._gives):
            child = schema.children[index]
            if child == ffi.NULL or child.dictionary != ffi.NULL or child.n_children != 0:
                raise self._refused(f"a plain column {field.name}", "NULL, a dictionary or children")
            found = f"{_text(ffi, child.name)} {_text(ffi, child.format)}"
            expected = f"{field.name} {_format(ffi, field.type)}"
            if found != expected:
                raise self._refused(f"column {index} to be {expected}", found)

    def _check_array(self, array: Any, rows: int, given: range) -> None:
        """`given`: the addresses of what came in, which is lent for the call only."""
        ffi = self._ffi
        if array.release == ffi.NULL:
            raise self._refused("out with a release callback", "none")
        if array.length != rows:
            raise self._refused(f"{rows} rows, as many as came in", array.length)
        if array.n_children != len(self._gives) or array.children == ffi.NULL or array.n_buffers != 1:
            raise self._refused(f"{len(self._gives)} columns and 1 buffer", f"{array.n_children}, {array.n_buffers}")
        if array.offset != 0 or array.null_count not in (0, -1) or array.buffers == ffi.NULL or array.buffers[0]:
            raise self._refused("a struct without offset and NULL rows", f"offset {array.offset}")
        for index, field in enumerate(self._gives):
            self._check_column(array.children[index], field, rows, given)

    def _check_column(self, column: Any, field: pa.Field, rows: int, given: range) -> None:
        ffi, where = self._ffi, f"column {field.name}"
        if column == ffi.NULL:
            raise self._refused(where, "NULL")
        buffers = 3 if pa.types.is_string(field.type) or pa.types.is_binary(field.type) else 2
        if column.length != rows or not 0 <= column.offset <= ROWS_MAX - rows:
            raise self._refused(f"{where} of {rows} rows", f"{column.length} at offset {column.offset}")
        if column.n_buffers != buffers or column.buffers == ffi.NULL or column.n_children or column.dictionary:
            raise self._refused(f"{where} with {buffers} buffers", column.n_buffers)
        if any(_address(ffi, column.buffers[index]) in given for index in range(buffers)):
            raise self._refused(f"{where} in memory of its own", "a buffer of the rows that came in")
        if not -1 <= column.null_count <= rows or (column.null_count > 0 and not column.buffers[0]):
            raise self._refused(f"{where} with a validity buffer for its NULLs", f"{column.null_count} NULLs without")
        if rows and not column.buffers[1]:
            raise self._refused(f"{where} with values", "NULL")
        if rows and buffers == 3:
            offsets = ffi.cast("int32_t *", column.buffers[1])
            if not column.buffers[2] and offsets[column.offset + rows] != 0:
                raise self._refused(f"{where} with the bytes that its offsets point at", "NULL")

    def _refused(self, expected: str, found: object) -> FatalError:
        return FatalError(f"{self.name}: expected {expected}, found {found}: nothing of the batch goes on")


def _own(record: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.Buffer]:
    """The rows in one piece of memory that nobody else holds, every offset 0; and that piece."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    memory = sink.getvalue()
    with pa.ipc.open_stream(memory) as reader:
        return reader.read_next_batch(), memory


def _address(ffi: Any, pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _text(ffi: Any, pointer: Any) -> str:
    return "NULL" if pointer == ffi.NULL else ffi.string(pointer, 256).decode("utf-8", "replace")


def _format(ffi: Any, kind: pa.DataType) -> str:
    """How the Arrow C Data Interface writes a type."""
    schema = ffi.new("struct ArrowSchema *")
    kind._export_to_c(_address(ffi, schema))
    try:
        return _text(ffi, schema.format)
    finally:
        schema.release(schema)

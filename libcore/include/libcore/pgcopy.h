/* Rows as PostgreSQL binary COPY (format of "COPY" in PostgreSQL's manual, Binary Format; versions 14 to 18).
 *
 * A buffer is the 19 byte header, one tuple a good row, and the trailer -1; without `framed`, the tuples only, so that
 * several batches can follow each other in one COPY.
 *
 *   kind       Arrow column          PostgreSQL column          what is written
 *   BOOL       bool                  boolean                    1 byte
 *   CHAR       int8                  "char"                     1 byte
 *   INT        int16, int32, int64   int2, int4, int8           big endian, same width
 *   FLOAT      float, double         float4, float8             big endian, same width
 *   DATE       date32                date                       days since 2000; INT32_MAX, INT32_MIN: +-infinity
 *   TIME_US    time64[us]            time                       microseconds, 0 to 24:00 inclusive
 *   TIME_NS    time64[ns]            time                       the same; only whole microseconds
 *   STAMP_US   timestamp[us]         timestamp, timestamptz     since 2000; INT64_MAX, INT64_MIN: +-infinity
 *   STAMP_NS   timestamp[ns]         timestamp, timestamptz     the same; only whole microseconds, no infinity
 *   DECIMAL    decimal128, 256       numeric                    base 10000 digits; dscale is the column's scale
 *   NUMERIC    utf8                  numeric                    [-]digits[.digits], NaN, [-]Infinity; dscale as written
 *   UUID       utf8                  uuid                       16 bytes; what uuid_in takes: braces, hyphens
 *   TEXT       utf8                  text, varchar, json, xml   the bytes; 0 bytes are refused
 *   BYTES      binary, fixed         bytea                      the bytes
 *
 * A text form whose type has a binary form of its own (jsonb, interval, bit, timetz, arrays) goes into a text column
 * and is cast by SQL.  UTF-8 is not checked again: an Arrow utf8 column holds it.
 *
 * Contract: `kinds` suits the layout column by column; `out` has the bytes that lc_pgcopy_bound says.
 * Units: Sizes in bytes; the units of times are part of the kind (table above).
 * Ownership: The batch is read in place; `out` and `errors` are the caller's.
 * Errors: A row that PostgreSQL would refuse is an lc_pg_error and is left out, its neighbours are written; codes at
 *   the function.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_PGCOPY_H
#define LIBCORE_PGCOPY_H

#include "libcore/types.h"

/* cdef */
typedef enum lc_pg_kind {
  LC_PG_BOOL = 1,
  LC_PG_CHAR = 2,
  LC_PG_INT = 3,
  LC_PG_FLOAT = 4,
  LC_PG_DATE = 5,
  LC_PG_TIME_US = 6,
  LC_PG_TIME_NS = 7,
  LC_PG_STAMP_US = 8,
  LC_PG_STAMP_NS = 9,
  LC_PG_DECIMAL = 10,
  LC_PG_NUMERIC = 11,
  LC_PG_UUID = 12,
  LC_PG_TEXT = 13,
  LC_PG_BYTES = 14
} lc_pg_kind;

/* Why a row was left out. */
typedef enum lc_pg_reason {
  LC_PG_NUL = 1,        /* a text holds a 0 byte */
  LC_PG_BAD_UUID = 2,   /* not a uuid */
  LC_PG_BAD_NUMBER = 3, /* not a number in the form above */
  LC_PG_PRECISION = 4,  /* nanoseconds that are no whole microseconds */
  LC_PG_RANGE = 5       /* PostgreSQL's type cannot hold it */
} lc_pg_reason;

/* A row that is not in the buffer; the first bad column of it. */
typedef struct lc_pg_error {
  int64_t row;    /* 0-based in the batch */
  int32_t column; /* 0-based */
  int32_t reason; /* lc_pg_reason */
} lc_pg_error;

/* What was written. */
typedef struct lc_pg_result {
  int64_t size;        /* bytes */
  int64_t rows;        /* tuples */
  int64_t error_count; /* rows left out; may exceed error_capacity */
} lc_pg_result;

/* Bytes that are enough for the batch, header and trailer included; -1 and *error where it does not fit its layout, has
 * more than 1600 columns (PostgreSQL's own limit) or a kind that does not suit its column. */
int64_t lc_pgcopy_bound(const struct ArrowArray *batch, const lc_column *columns, const int32_t *kinds,
                        int64_t column_count, lc_error *error);

/* Write the rows.
 *
 *   kinds                   an lc_pg_kind a column
 *   framed                  1: with header and trailer
 *   out, capacity           at least lc_pgcopy_bound bytes
 *   errors, error_capacity  the first rows left out, in order
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY where `capacity` is below the bound.
 */
lc_code lc_pgcopy(const struct ArrowArray *batch, const lc_column *columns, const int32_t *kinds, int64_t column_count,
                  int32_t framed, uint8_t *out, int64_t capacity, lc_pg_error *errors, int64_t error_capacity,
                  lc_pg_result *result, lc_error *error);
/* end cdef */

#endif

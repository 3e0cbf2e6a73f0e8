/* Debezium JSON messages to the columns of a change batch; a bad message becomes an error entry, its neighbours go on.
 *
 * One pass over each message: member names are predicted from the message before, values go straight into columns; a
 * message that surprises (escaped names, changed keys, any fault) is read again by a slower path that finds the exact
 * fault.
 *
 * ENVELOPE.  Members in any order, unknown ones skipped but checked.  A document whose first member is `schema` is
 * wrapped, {"schema":S,"payload":P}: S must have the plan's bytes, else the call stops; without a schema in the plan
 * messages must not be wrapped.  A NULL value or a null payload is a tombstone.  The message's key may be wrapped or
 * not, whatever the value is, and is read only when it is needed.
 *   - op c, r, u: UPSERT of `after`; its key columns must be there and not NULL, else KEY; a missing field is unset.
 *     Where the plan says `creates`, op c and r give INSERT, which is an upsert that the source calls new.
 *   - op u whose `before` holds all key columns, one with another value: DELETE of the old key, then the UPSERT.
 *   - op d: DELETE by the key columns of `before` where they are all there and not NULL, else by the message's key,
 *     else KEY; the other columns are NULL.
 *   - op t: the call stops before it.  op m: event MESSAGE.  Any other op: OP.
 *   - no op: with `status` and `id` event TRANSACTION, with `ts_ms` event HEARTBEAT, else OP.
 *   - tombstone: DELETE by the message's key; without a key in the table or in the message event TOMBSTONE.
 *   - op c, r, u where the plan says which columns `after` carries: the call stops before an `after` that has not
 *     exactly these of the plan's columns in this order (a placeholder counts as there).  Value faults come first, KEY
 *     and BEFORE behind it.
 *   - a table without key columns: u is DELETE of `before` and UPSERT of `after`, d is DELETE of `before`, all columns;
 *     without `before`, or with a placeholder in either: BEFORE; a missing column is NULL.
 *
 * POSITION.  postgresql: commit = first element of `source.sequence` (null: 0), order = `lsn`; oracle: `commit_scn`,
 * `scn`; sqlserver: `commit_lsn`, `change_lsn` << 32 | `event_serial_no`.  Rows whose `source.snapshot` is there and
 * neither null nor false, and rows that lack one of these, have none.  A row without a position, or with one not above
 * the last row's, gets the last one raised by one.  A table without key columns drops redelivered rows (event
 * REDELIVERED): a smaller first 29 bytes than the last; after such a one also equal ones, as many as the last record's
 * counter says are there.  __source_ts: `source.ts_us`, else `ts_ms` * 1000, else NULL.
 *
 * TRANSACTION.  Where the plan says `transactions`, the last two columns are the row's `transaction.id` (UTF8) and
 * `transaction.data_collection_order` (INT64, from 0 up); NULL where the message has none.  A tombstone is then always
 * event TOMBSTONE: it carries no transaction, and the delete before it says the same.
 *
 * FAULTS.  One a message, the first in this order: UTF8; SYNTAX and DEPTH (json.h); of the value faults the one with
 * the smallest byte position: DUPLICATE at the second name's quote (envelope members, used fields of `source` and
 * `transaction`, table columns), TYPE, RANGE, SCALE, BASE64, ARRAY at the value's first byte, SURROGATE at the
 * backslash of a lone surrogate; then OP, KEY, BEFORE at byte 0.  Looked into are `source`, `transaction` where the
 * plan says so, `after` for c r u, `before` for u d (with key columns: those alone).
 *
 * UNSET.  Not sent is not NULL: a missing field, or the placeholder: as the string of STRING, RAW_JSON, DECIMAL_TEXT
 * and NUMERIC_TEXT (of the first two also as {"ph":"ph"}), as base64 of BASE64 and BITS; of ARRAY as ["ph"], the list
 * of its byte values, or what makes the column's literal `unsent`.
 *
 * Contract: Messages are those of one topic, in the order of their offsets; the state is that of the last call on the
 *   partition.
 * Units: Positions of faults are 0-based bytes in the value; times in the unit of the column; __source_ts in
 *   microseconds.
 * Ownership: Plan and messages are read in place during the call alone; *out is released once by lc_decoded_free, its
 *   batch may be moved out before.
 * Errors: A bad message is an lc_row_error and the call goes on; a message that a person or another plan has to answer
 *   stops it (`stop`); codes at the function.
 * Threads: No state but the arguments'; partitions in parallel, messages of one partition one call after the other.
 */
#ifndef LIBCORE_ENVELOPE_H
#define LIBCORE_ENVELOPE_H

#include "libcore/json.h"
#include "libcore/types.h"

/* cdef */
/* How a value is written on the wire, and the lc_types it may fill.  null is NULL in each; another kind is TYPE. */
typedef enum lc_encoding {
  /* an integer literal without fraction or exponent -> INT16, INT32, INT64 */
  LC_ENCODING_INT = 1,
  LC_ENCODING_BOOL = 2,
  /* a number, or "NaN", "Infinity", "-Infinity" -> FLOAT64 (too large: RANGE) or FLOAT32, the nearest */
  LC_ENCODING_FLOAT = 3,
  LC_ENCODING_STRING = 4, /* -> UTF8; \u0000 is accepted */
  LC_ENCODING_BASE64 = 5, /* standard alphabet, padded -> BINARY */
  /* a string or a number, sign, digits, point, exponent -> a decimal; digits beyond its scale must be 0, else SCALE */
  LC_ENCODING_DECIMAL_TEXT = 6,
  /* big-endian two's complement at wire_scale, or a number: itself -> a decimal, rescaled exactly */
  LC_ENCODING_DECIMAL_BASE64 = 7,
  /* as DECIMAL_TEXT -> UTF8: optional '-', one leading zero at most, no exponent, fraction digits as given, no -0; NaN,
   * Infinity and -Infinity stay; above 20,000 digits RANGE */
  LC_ENCODING_NUMERIC_TEXT = 8,
  LC_ENCODING_NUMERIC_STRUCT = 9, /* {"scale":int,"value":base64} -> the same text */
  /* -> DATE32.  Debezium's days for PostgreSQL's infinity (-2147472692, 2146033979) and -infinity (-2147472691), here
   * and as ISO_DATE, become INT32_MAX and INT32_MIN */
  LC_ENCODING_DATE_DAYS = 10,
  LC_ENCODING_TIME_MS = 11,       /* 0..24:00 inclusive -> TIME64 */
  LC_ENCODING_TIME_US = 12,
  LC_ENCODING_TIME_NS = 13,
  /* -> TIMESTAMP.  pgjdbc's infinities 9223372036825200000 and -9223372036832400000 as milliseconds or microseconds,
   * in every form of these and of the texts below, the end values of NS, and the words "infinity" and "-infinity" of
   * the texts become INT64_MAX and INT64_MIN in microsecond columns */
  LC_ENCODING_TIMESTAMP_MS = 14,
  LC_ENCODING_TIMESTAMP_US = 15,
  LC_ENCODING_TIMESTAMP_NS = 16, /* into microseconds only where divisible, else SCALE */
  /* "YYYY-MM-DDTHH:MM:SS[.fraction](Z|+HH:MM)" -> TIMESTAMP; 4 to 9 year digits (a date: 7), optional sign; fraction
   * digits beyond the unit must be 0, else SCALE */
  LC_ENCODING_ZONED_TIMESTAMP = 17,
  LC_ENCODING_ISO_DATE = 18, /* these three with an optional Z behind */
  LC_ENCODING_ISO_TIME = 19,
  LC_ENCODING_ISO_TIMESTAMP = 20,
  LC_ENCODING_BITS = 21,     /* base64 of little-endian bytes -> UTF8: bit_length '0' and '1', most significant first */
  LC_ENCODING_RAW_JSON = 22, /* -> UTF8: the value's JSON text as it stands; of a string the unescaped text */
  /* -> UTF8: the array literal {1,NULL,"a"}.  Strings, ISO texts and bytes ("\\x00ff") quoted, decimals and numerics as
   * canonical text, integers of dates and times as ISO text, t and f; an inner array, or a string like "[I@1b2c"
   * (Java's print of one): ARRAY */
  LC_ENCODING_ARRAY = 23,
  LC_ENCODING_DECIMAL_STRUCT = 24, /* as NUMERIC_STRUCT -> a decimal */
  /* Of JSON alone, not of Avro: */
  LC_ENCODING_HEX = 25, /* pairs of hexadecimal digits, else TYPE -> BINARY */
  /* as ZONED_TIMESTAMP, with perhaps a blank and the name of a zone behind, which says nothing more */
  LC_ENCODING_NAMED_TIMESTAMP = 26
} lc_encoding;

/* One column and its encoding; as an array's element only the fields from `encoding` on count. */
typedef struct lc_wire_column {
  const char *name;   /* UTF-8 as it is, not escaped, not NUL-terminated */
  int32_t name_size;  /* bytes */
  int32_t is_key;     /* 1 for a key column */
  int32_t encoding;   /* lc_encoding */
  int32_t type;       /* lc_type */
  int32_t precision;  /* decimals */
  int32_t scale;      /* decimals: digits after the point; TIME64 and TIMESTAMP: 6 or 9, the unit's digits */
  int32_t wire_scale; /* DECIMAL_BASE64: scale of the integer on the wire */
  int32_t bit_length; /* BITS: bits of the text */
  const struct lc_wire_column *item; /* ARRAY: the element, else NULL */
  /* ARRAY: the literal, in its braces, that stands for an array that was not sent where its elements are no integers
   * and no placeholder; or NULL */
  const uint8_t *unsent;
  int64_t unsent_size;
} lc_wire_column;

typedef enum lc_position_kind {
  LC_POSITION_NONE = 0,
  LC_POSITION_POSTGRESQL = 1,
  LC_POSITION_ORACLE = 2,
  LC_POSITION_SQLSERVER = 3
} lc_position_kind;

/* What is fixed for a topic.  Owned by the caller, read during a call only. */
typedef struct lc_envelope_plan {
  const lc_wire_column *columns;
  int32_t column_count; /* 1..65,000 */
  int32_t position;     /* lc_position_kind */
  uint32_t generation;
  int32_t creates; /* 1: rows of op c and r of a table with a key are op 6 (INSERT) instead of 1 (UPSERT) */
  int32_t stop_on_unknown;
  int32_t transactions; /* 1: two more columns, and no deletes from tombstones; see TRANSACTION */
  const uint8_t *schema; /* bytes of the schema part, or NULL: messages are not wrapped */
  int64_t schema_size;
  const uint8_t *placeholder; /* 1..1000 bytes */
  int64_t placeholder_size;
  const int32_t *carried; /* indexes of the columns that `after` has, in its order; NULL: not looked at */
  int32_t carried_count;
} lc_envelope_plan;

/* Kept by the caller from call to call of one partition. */
typedef struct lc_envelope_state {
  uint8_t last_position[32];
  int64_t redelivered; /* -1: not dropping a redelivered tail */
} lc_envelope_state;

/* A message that gave no row. */
typedef struct lc_row_error {
  int64_t message;  /* 0-based in the input */
  int64_t position; /* 0-based byte in its value */
  int32_t code;     /* lc_row_code */
  int32_t column;   /* the column to blame, or -1 */
} lc_row_error;

typedef enum lc_event_kind {
  LC_EVENT_HEARTBEAT = 1,
  LC_EVENT_TRANSACTION = 2,
  LC_EVENT_MESSAGE = 3,
  LC_EVENT_TOMBSTONE = 4,
  LC_EVENT_REDELIVERED = 5
} lc_event_kind;

typedef struct lc_row_event {
  int64_t message;
  int32_t kind; /* lc_event_kind */
} lc_row_event;

typedef enum lc_stop {
  LC_STOP_NONE = 0,
  LC_STOP_SCHEMA = 1,
  LC_STOP_TRUNCATE = 2,
  LC_STOP_UNKNOWN = 3,
  LC_STOP_COLUMNS = 4 /* `after` carries other columns than the plan says */
} lc_stop;

/* What a call made.  Released by lc_decoded_free, once; batch may be moved out (then batch.release is NULL). */
typedef struct lc_decoded {
  struct ArrowArray
      batch; /* the columns, __op INT8, __position FIXED 32, __source_ts TIMESTAMP, __unset FIXED where has_unset,
                __tx UTF8 and __tx_order INT64 where the plan says `transactions` */
  int32_t has_unset;
  int32_t stop;     /* lc_stop: what message `consumed` raised */
  int64_t consumed; /* messages done, counted from the input's first */
  int64_t row_count;
  int32_t *rows; /* message of each row */
  int64_t error_count;
  lc_row_error *errors; /* in the order of messages, one each at most */
  int64_t event_count;
  lc_row_event *events; /* in the order of messages */
  uint8_t *unknown;     /* LC_STOP_UNKNOWN: the field's name, unescaped */
  int64_t unknown_size;
  lc_envelope_state state; /* for the next call */
} lc_decoded;

/* Decode messages[start:] of a struct array (key BINARY, value BINARY, offset INT64, timestamp_ms INT64).
 *
 * level as in lc_json_validate.  Work is linear in the bytes; memory is that of the output and one message.
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY where a column's text would pass 2^31-1 bytes; on failure
 * *out holds nothing to free.
 */
lc_code lc_envelope_decode(const lc_envelope_plan *plan, const struct ArrowArray *messages, int64_t start,
                           const lc_envelope_state *state, int32_t level, lc_decoded *out, lc_error *error);

void lc_decoded_free(lc_decoded *decoded);
/* end cdef */

#endif

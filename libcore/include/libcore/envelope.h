/* Debezium JSON messages to the columns of a change batch; a bad message becomes an error entry, its neighbours go on.
 *
 * The meaning of every field is in docs/reference of libcore.decode (decode_envelopes); this header says the layouts.
 * One pass over each message: member names are predicted from the message before, values go straight into columns; a
 * message that surprises (escaped names, moved keys, any fault) is read again by a slower path that finds the exact
 * fault.
 */
#ifndef LIBCORE_ENVELOPE_H
#define LIBCORE_ENVELOPE_H

#include "libcore/json.h"
#include "libcore/types.h"

/* cdef */
/* How a value is written on the wire -> the lc_types it may fill. */
typedef enum lc_encoding {
  LC_ENCODING_INT = 1,              /* INT16, INT32, INT64 */
  LC_ENCODING_BOOL = 2,             /* BOOL */
  LC_ENCODING_FLOAT = 3,            /* FLOAT32, FLOAT64 */
  LC_ENCODING_STRING = 4,           /* UTF8 */
  LC_ENCODING_BASE64 = 5,           /* BINARY */
  LC_ENCODING_DECIMAL_TEXT = 6,     /* DECIMAL128, DECIMAL256 */
  LC_ENCODING_DECIMAL_BASE64 = 7,   /* DECIMAL128, DECIMAL256 */
  LC_ENCODING_NUMERIC_TEXT = 8,     /* UTF8 */
  LC_ENCODING_NUMERIC_STRUCT = 9,   /* UTF8 */
  LC_ENCODING_DATE_DAYS = 10,       /* DATE32 */
  LC_ENCODING_TIME_MS = 11,         /* TIME64 */
  LC_ENCODING_TIME_US = 12,         /* TIME64 */
  LC_ENCODING_TIME_NS = 13,         /* TIME64 */
  LC_ENCODING_TIMESTAMP_MS = 14,    /* TIMESTAMP */
  LC_ENCODING_TIMESTAMP_US = 15,    /* TIMESTAMP */
  LC_ENCODING_TIMESTAMP_NS = 16,    /* TIMESTAMP */
  LC_ENCODING_ZONED_TIMESTAMP = 17, /* TIMESTAMP */
  LC_ENCODING_ISO_DATE = 18,        /* DATE32 */
  LC_ENCODING_ISO_TIME = 19,        /* TIME64 */
  LC_ENCODING_ISO_TIMESTAMP = 20,   /* TIMESTAMP */
  LC_ENCODING_BITS = 21,            /* UTF8 */
  LC_ENCODING_RAW_JSON = 22,        /* UTF8 */
  LC_ENCODING_ARRAY = 23,           /* UTF8 */
  LC_ENCODING_DECIMAL_STRUCT = 24   /* DECIMAL128, DECIMAL256 */
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
  int32_t stop_on_unknown;
  const uint8_t *schema; /* bytes of the schema part, or NULL: messages are not wrapped */
  int64_t schema_size;
  const uint8_t *placeholder; /* 1..1000 bytes */
  int64_t placeholder_size;
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

typedef enum lc_stop { LC_STOP_NONE = 0, LC_STOP_SCHEMA = 1, LC_STOP_TRUNCATE = 2, LC_STOP_UNKNOWN = 3 } lc_stop;

/* What a call made.  Released by lc_decoded_free, once; batch may be moved out (then batch.release is NULL). */
typedef struct lc_decoded {
  struct ArrowArray
      batch; /* the columns, __op INT8, __position FIXED 32, __source_ts TIMESTAMP, and __unset FIXED where has_unset */
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

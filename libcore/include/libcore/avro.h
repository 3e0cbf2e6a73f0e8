/* Avro messages to the columns of a change batch; a bad message becomes an error entry, its neighbours go on.
 *
 * Rows, operations, positions, transactions, unset values and events are those of envelope.h; here stands what differs.
 * The caller has resolved the writer's schema against its columns: each node of the schema says what the bytes are,
 * each field of it which column, or which member of the envelope, it fills.
 *
 * FRAMING.  A value is a 0 byte, the writer schema's id (4 bytes big endian as Confluent has it, 8 as Apicurio), then
 * the body; or the body alone.  Another id than the plan's: the call stops before the message.  The key, which is read
 * only where a row needs it, has a schema of its own; another id there is a stop too.  A NULL value, and a body whose
 * root is the null branch of a union, is a tombstone.
 *
 * MODE.  ENVELOPE: the root is a record with the members of envelope.h; members that are missing there count as
 * missing.  FLAT: the root is the row itself, every message is an UPSERT of it, without position and time.
 *
 * VALUES.  What fills a column is its encoding (envelope.h), from these kinds; null is NULL, another kind TYPE:
 *   INT int, long (RANGE where the column is narrower); BOOL boolean; FLOAT float, double, int, long
 *   STRING string, bytes (must be UTF-8), enum: its symbol; BASE64 bytes, fixed, string: the bytes as they stand
 *   DECIMAL_TEXT, NUMERIC_TEXT string, int, long; DECIMAL_BASE64 bytes, fixed: two's complement at wire_scale
 *   NUMERIC_STRUCT, DECIMAL_STRUCT record of scale (int, long) and value (bytes, fixed)
 *   DATE_DAYS, TIME_*, TIMESTAMP_* int, long; ZONED_TIMESTAMP, ISO_* string; BITS bytes, fixed
 *   ARRAY array; an inner array is ARRAY
 *   RAW_JSON any kind, as compact JSON: bytes and fixed as base64, enum as its symbol, map and record as objects, the
 *     shortest digits of a float, "NaN", "Infinity" and "-Infinity" in quotes; of a string the text itself
 *
 * FAULTS.  One a message.  First what breaks the bytes, where reading ends: SYNTAX for a wrong magic byte, bytes that
 * end early (at the length), a long of more than 64 bits, an int of more than 32, a boolean that is neither 0 nor 1, an
 * index of no branch or symbol, a negative length or one above what is left, a block count above the bytes that are
 * left, bytes behind the root; DEPTH for more than 64 records, arrays and maps inside one another.  Then the value
 * faults and the rest as in envelope.h, UTF8 (at the malformed sequence, in texts that are kept) among them; their
 * position is the value's first byte behind its union branch.
 *
 * Contract: The plan's schemas were resolved by the caller: node and part numbers are in range (else LC_INVALID); bytes
 *   of messages may be anything.
 * Units: Positions are 0-based bytes in the message's value; times and positions as in envelope.h.
 * Ownership: Plan, schemas and messages are read in place during the call alone; *out is released once by
 *   lc_decoded_free.
 * Errors: A bad message is an lc_row_error and the call goes on; a message that another schema or a person has to
 *   answer stops it (`stop`); codes at the function.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_AVRO_H
#define LIBCORE_AVRO_H

#include "libcore/envelope.h"
#include "libcore/types.h"

/* cdef */
typedef enum lc_avro_kind {
  LC_AVRO_NULL = 1,
  LC_AVRO_BOOLEAN = 2,
  LC_AVRO_INT = 3,
  LC_AVRO_LONG = 4,
  LC_AVRO_FLOAT = 5,
  LC_AVRO_DOUBLE = 6,
  LC_AVRO_BYTES = 7,
  LC_AVRO_STRING = 8,
  LC_AVRO_FIXED = 9,  /* count: bytes */
  LC_AVRO_ENUM = 10,  /* count: symbols, parts from first on */
  LC_AVRO_ARRAY = 11, /* first: the node of the items */
  LC_AVRO_MAP = 12,
  LC_AVRO_UNION = 13, /* count: branches, parts from first on */
  LC_AVRO_RECORD = 14 /* count: fields, parts from first on */
} lc_avro_kind;

typedef struct lc_avro_node {
  int32_t kind; /* lc_avro_kind */
  int32_t count;
  int32_t first;
} lc_avro_node;

/* A record's field, a union's branch or an enum's symbol. */
typedef struct lc_avro_part {
  int32_t node; /* of a field or a branch */
  /* A field of a row: its column, or -1.  Of an envelope: 0 before, 1 after, 2 source, 3 op, 4 ts_ms, 5 status, 6 id,
   * 7 transaction.  Of `source`: 0 ts_ms, 1 ts_us, 2 snapshot, 3 lsn (scn, change_lsn), 4 sequence (commit_scn,
   * commit_lsn), 5 event_serial_no.  Of `transaction`: 0 id, 1 data_collection_order.  Of a number's struct: 0 scale,
   * 1 value.  All others -1. */
  int32_t role;
  const char *name;  /* of a field or a symbol: UTF-8, not NUL-terminated */
  int32_t name_size; /* bytes */
} lc_avro_part;

/* A writer's schema.  A node may stand in itself, but not without bytes between. */
typedef struct lc_avro_schema {
  const lc_avro_node *nodes;
  const lc_avro_part *parts;
  int32_t node_count; /* 0: there is none */
  int32_t part_count;
  int32_t root;
  uint64_t id;
} lc_avro_schema;

typedef enum lc_avro_mode { LC_AVRO_ENVELOPE = 0, LC_AVRO_FLAT = 1 } lc_avro_mode;

/* What is fixed for a writer's schema.  Owned by the caller, read during a call only. */
typedef struct lc_avro_plan {
  lc_envelope_plan rows; /* schema and carried NULL, stop_on_unknown 0 */
  lc_avro_schema value, key;
  int32_t framing;          /* bytes of the id: 0 (no framing at all), 4 or 8 */
  int32_t mode;             /* lc_avro_mode */
  const uint8_t *defaulted; /* one byte a column, or NULL: 1 where a column that is not sent is NULL and not unset */
} lc_avro_plan;

/* Decode messages[start:], as lc_envelope_decode; `stop` may be LC_STOP_NONE, SCHEMA, TRUNCATE, or 5: the message's key
 * has another schema than the plan's.
 *
 * level as in lc_json_validate.  Work is linear in the bytes; memory is that of the output and one message.
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY where a column's text would pass 2^31-1 bytes; on failure
 * *out holds nothing to free.  Released by lc_decoded_free.
 */
lc_code lc_avro_decode(const lc_avro_plan *plan, const struct ArrowArray *messages, int64_t start,
                       const lc_envelope_state *state, int32_t level, lc_decoded *out, lc_error *error);
/* end cdef */

#endif

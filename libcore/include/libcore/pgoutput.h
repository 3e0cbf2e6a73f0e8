/* PostgreSQL's logical replication messages (plugin pgoutput, protocol 1 to 4) to the columns of change batches, one
 * batch a relation; a bad row becomes an error entry, its neighbours go on.
 *
 * MESSAGES.  One a row of the input: the body of an XLogData, and the LSN that it starts at.
 *   - B opens a transaction, C closes it; O (origin) is passed over; M is listed as event.
 *   - I: INSERT of the new tuple (UPSERT where the plan does not say `creates`, and in a table without a key).
 *   - U: UPSERT of the new tuple.  With an old tuple (K or O) that has all key columns, one of them with another
 *     value: DELETE of the old key, then the UPSERT.  D: DELETE by the key columns of the old tuple, the other
 *     columns are NULL.
 *   - a table without key columns: U is DELETE of the old tuple and UPSERT of the new one, D is DELETE, all columns.
 *   - an unchanged value ('u') of a new tuple is taken from the old tuple where that has it, else it is unset, and so
 *     is a column that the relation has not; in a table without a key the latter is NULL.
 *   - changes of a relation that the plan says is `ignored` count, but give nothing; of a refused one each is a
 *     fault.
 *
 * STOPS.  The call ends before a message that another has to answer: RELATION (Y, or R with another description than
 * the plan's), UNKNOWN (a change of a relation that the plan has not), TRUNCATE (T), STREAM (S, E, A, c: of a
 * streamed transaction), PREPARED (b, P, K, r, p: of two phases), BROKEN (an unknown kind, a B, C or M that cannot be
 * read, a change outside of a transaction; then the last error entry says why).
 *
 * STREAMED.  With `streamed` the messages are those of one streamed transaction, each with its xid behind the kind: S
 * and E are passed over, rows of an xid in `aborted` too, and the state says what its commit said.
 *
 * POSITION.  generation; commit LSN of the transaction; LSN of the change; counter 2n for the n-th message of that
 * LSN (one WAL record can insert many rows), 2n + 1 for the second row of a message.  A LSN below the last one counts
 * as the last one.  So a transaction that is sent again gives the same positions, and changes at or below `after` are
 * dropped.
 *
 * TRANSACTIONS.  Where the plan says `transactions`, the last two columns are "xid:commit LSN" (UTF8, decimal) and
 * the number of the message among those of its relation in the transaction, from 1 (INT64).
 *
 * FAULTS.  One a message, the first in this order: SYNTAX (a message cut short, of another number of columns than the
 * relation, with bytes behind it) at the field that cannot be read; BEFORE at byte 0 (a table without a key, and a
 * value is missing in a tuple); the values of the old tuple where it gives a row, then of the new one, each at its
 * first byte: TYPE (not the text or the binary form of its type), RANGE, SCALE, UTF8; KEY at byte 0 (a key column
 * without a value).  OP at byte 0: each change of a refused relation, and what broke the call.
 *
 * Contract: Messages are those of one slot in order; the state and `changes` are those of the last call.
 * Units: LSNs are 64-bit byte positions of the log; commit times in microseconds since 1970; positions of faults are
 *   0-based bytes in the message.
 * Ownership: Plan and messages are read in place during the call alone; *out is released once by lc_pgoutput_free, a
 *   batch may be moved out before.
 * Errors: A bad message is an lc_pgoutput_error and the call goes on; one that another has to answer stops it (STOPS);
 *   codes at the function.
 * Threads: No state but the arguments'; slots in parallel, messages of one slot one call after the other.
 */
#ifndef LIBCORE_PGOUTPUT_H
#define LIBCORE_PGOUTPUT_H

#include "libcore/json.h"
#include "libcore/types.h"

/* cdef */
/* What a value is at the source, its text (as of DateStyle ISO) and binary form, and the lc_types it may fill. */
typedef enum lc_pgoutput_kind {
  LC_PGOUTPUT_BOOL = 1,  /* -> BOOL */
  LC_PGOUTPUT_INT = 2,   /* int2, int4, int8 -> INT16, INT32, INT64 */
  LC_PGOUTPUT_OID = 3,   /* unsigned -> INT64 */
  LC_PGOUTPUT_FLOAT = 4, /* float4, float8, NaN and infinities too -> FLOAT64, FLOAT32 (nearest) */
  LC_PGOUTPUT_TEXT = 5,  /* -> UTF8; enumerations, json, xml and names too */
  LC_PGOUTPUT_JSONB = 6, /* -> UTF8; its binary form begins with a version */
  LC_PGOUTPUT_NUMERIC = 7,    /* -> a decimal (NaN and infinities: RANGE), or UTF8 as LC_ENCODING_NUMERIC_TEXT */
  LC_PGOUTPUT_BYTEA = 8,      /* hex or escape -> BINARY */
  LC_PGOUTPUT_DATE = 9,       /* -> DATE32; infinities INT32_MAX and INT32_MIN */
  LC_PGOUTPUT_TIME = 10,      /* 0..24:00 inclusive -> TIME64, microseconds */
  LC_PGOUTPUT_TIMESTAMP = 11, /* -> TIMESTAMP, microseconds; infinities INT64_MAX and INT64_MIN */
  LC_PGOUTPUT_TIMESTAMPTZ = 12,
  LC_PGOUTPUT_UUID = 13,     /* -> UTF8; these four: the text, or the binary form as PostgreSQL prints it */
  LC_PGOUTPUT_INTERVAL = 14, /* IntervalStyle postgres */
  LC_PGOUTPUT_TIMETZ = 15,
  LC_PGOUTPUT_BITS = 16,
  LC_PGOUTPUT_OTHER = 17 /* the text -> UTF8; a binary form is TYPE: arrays, geometry, ranges, money, types of users */
} lc_pgoutput_kind;

/* A column as the relation sends it. */
typedef struct lc_pgoutput_wire {
  int32_t kind;   /* lc_pgoutput_kind */
  int32_t column; /* the table's column that it fills, or -1 */
} lc_pgoutput_wire;

/* A column of the table. */
typedef struct lc_pgoutput_column {
  int32_t type; /* lc_type */
  int32_t precision, scale;
  int32_t is_key;
} lc_pgoutput_column;

enum { LC_PGOUTPUT_READ = 0, LC_PGOUTPUT_IGNORED = 1, LC_PGOUTPUT_REFUSED = 2 };

typedef struct lc_pgoutput_relation {
  uint32_t oid;
  int32_t ignored; /* LC_PGOUTPUT_READ, _IGNORED or _REFUSED */
  const lc_pgoutput_wire *wire;
  const lc_pgoutput_column *columns;
  const uint8_t *description; /* its R message without kind and xid */
  int64_t description_size;
  int32_t wire_count, column_count; /* 0..65,000 */
} lc_pgoutput_relation;

/* Owned by the caller, read during a call only. */
typedef struct lc_pgoutput_plan {
  const lc_pgoutput_relation *relations; /* of different oids */
  const uint32_t *aborted;               /* ascending */
  int64_t aborted_count;
  int32_t relation_count;
  uint32_t generation;
  int32_t creates, transactions, streamed;
} lc_pgoutput_plan;

/* Kept by the caller from call to call of one slot. */
typedef struct lc_pgoutput_state {
  uint64_t commit_lsn, lsn; /* of the open transaction; of its last change */
  int64_t commit_us;        /* time of the commit, microseconds since 1970 */
  int64_t count;            /* messages of that lsn so far */
  uint8_t after[32];        /* the last change's position: changes at or below it were given before */
  uint32_t xid;
  int32_t open; /* 1 inside a transaction */
} lc_pgoutput_state;

/* A message that gave no row. */
typedef struct lc_pgoutput_error {
  int64_t message;     /* 0-based in the input */
  int64_t position;    /* 0-based byte in it */
  int64_t number;      /* of the message among those of its relation in the transaction, from 1; 0: none */
  uint64_t commit_lsn; /* of its transaction; 0: none */
  uint32_t xid;
  int32_t code;     /* lc_row_code */
  int32_t relation; /* index in the plan, or -1 */
  int32_t column;   /* the relation's column to blame, or -1 */
} lc_pgoutput_error;

typedef enum lc_pgoutput_stop {
  LC_PGOUTPUT_STOP_NONE = 0,
  LC_PGOUTPUT_STOP_RELATION = 1,
  LC_PGOUTPUT_STOP_UNKNOWN = 2,
  LC_PGOUTPUT_STOP_TRUNCATE = 3,
  LC_PGOUTPUT_STOP_STREAM = 4,
  LC_PGOUTPUT_STOP_PREPARED = 5,
  LC_PGOUTPUT_STOP_BROKEN = 6
} lc_pgoutput_stop;

/* The rows of one relation. */
typedef struct lc_pgoutput_rows {
  struct ArrowArray batch; /* the columns, __op INT8, __position FIXED 32, __source_ts TIMESTAMP, __unset FIXED where
                              has_unset, __tx UTF8 and __tx_order INT64 where the plan says `transactions` */
  int32_t relation;        /* index in the plan */
  int32_t has_unset;
} lc_pgoutput_rows;

/* A transaction that ended. */
typedef struct lc_pgoutput_commit {
  int64_t message; /* its C */
  int64_t xid, commit_lsn, end_lsn, commit_us;
} lc_pgoutput_commit;

/* Messages of a relation in it; with `transactions` only, and where there were any. */
typedef struct lc_pgoutput_share {
  int64_t commit; /* index of the lc_pgoutput_commit */
  int64_t relation, count;
} lc_pgoutput_share;

/* What a call made.  Released by lc_pgoutput_free, once; a batch may be moved out (then its release is NULL). */
typedef struct lc_pgoutput_decoded {
  lc_pgoutput_rows *rows; /* in the order of their first rows */
  lc_pgoutput_error *errors;
  lc_pgoutput_commit *commits;
  lc_pgoutput_share *shares;
  int64_t *events; /* messages of kind M */
  int64_t row_sets, error_count, commit_count, share_count, event_count;
  int64_t consumed;    /* messages done, counted from the input's first */
  int64_t redelivered; /* changes dropped, at or below `after` */
  int32_t stop;        /* lc_pgoutput_stop: what message `consumed` raised */
  int32_t unused;
  lc_pgoutput_state state; /* for the next call */
} lc_pgoutput_decoded;

/* Decode messages[start:] of a struct array (payload BINARY, wal_start INT64), neither with NULLs.
 *
 * changes: in and out, one a relation: its messages in the open transaction so far.  level as in lc_json_validate.
 * Work is linear in the bytes; memory is that of the output and one message.  Returns LC_OK, LC_INVALID, LC_NO_MEMORY,
 * or LC_CAPACITY where a column's text would pass 2^31-1 bytes; on failure *out holds nothing to free and `changes` is
 * not to be used.
 */
lc_code lc_pgoutput_decode(const lc_pgoutput_plan *plan, const struct ArrowArray *messages, int64_t start,
                           const lc_pgoutput_state *state, int64_t *changes, int32_t level, lc_pgoutput_decoded *out,
                           lc_error *error);

void lc_pgoutput_free(lc_pgoutput_decoded *decoded);
/* end cdef */

#endif

/* OpenLogReplicator's JSON, in which one topic holds the changes of all tables, to messages of each table for
 * lc_envelope_decode.
 *
 * MESSAGE.  {..., "payload":[change, ...]}: one change (begin, each row and commit apart), or a whole transaction.  A
 * NULL value holds nothing.  Of the other members none is needed: the order of the changes is that of the messages.
 *
 * CHANGE.  {"op":OP, "schema":{"owner":OWNER,"table":TABLE, ...}, ..., "before":{...}, "after":{...}}:
 *   - op c, u, d: a row of the table OWNER.TABLE, of TABLE where no owner is named.  Where the caller asks for that
 *     table it is given out, else it counts as one of `others`.
 *   - op ddl: the message is listed in `ddl`, once.  op begin, commit, chkpt: nothing.
 * Names of members are compared as they stand (one with an escape in it is another name), those of tables unescaped.
 *
 * GIVEN OUT.  The change's own text behind a source block of its message's offset and its place in the payload, which
 * lc_envelope_decode reads as a position of the kind LC_POSITION_ORACLE: {"source":{"commit_scn":"OFFSET","scn":
 * "PLACE"},"op":...}.  Changes stand table by table, those of one table in their order.
 *
 * FAULTS.  One a message, and none of its changes is given out then: UTF8; SYNTAX and DEPTH (json.h); the first of TYPE
 * (no object, `payload` that is no array, a change or `schema` that is no object, `op`, `owner` or `table` that is no
 * string, each at its first byte; a row without a table, at the change), DUPLICATE (a second payload, op, schema, owner
 * or table, at its name), SURROGATE (a table's name, at the backslash), OP (another op, at its value; none, at the
 * change; no payload, at byte 0).
 *
 * Contract: Messages are those of one topic partition, in the order of their offsets; any bytes may come.
 * Units: Positions of faults are 0-based bytes in the message's value; offsets and times are carried as they come.
 * Ownership: Names and messages are read in place during the call alone; *out is released once by
 *   lc_openlogreplicator_free, its batch may be moved out before.
 * Errors: A bad message is an lc_row_error and its neighbours go on; codes at the function.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_OPENLOGREPLICATOR_H
#define LIBCORE_OPENLOGREPLICATOR_H

#include "libcore/envelope.h"
#include "libcore/types.h"

/* cdef */
/* A table that is asked for. */
typedef struct lc_olr_table {
  const char *name;  /* OWNER.TABLE as UTF-8, not NUL-terminated */
  int32_t name_size; /* bytes, 1..1000 */
} lc_olr_table;

/* What a call made.  Released by lc_openlogreplicator_free, once; batch may be moved out (then batch.release is NULL).
 */
typedef struct lc_olr_split {
  struct ArrowArray batch; /* value BINARY, offset INT64, timestamp_ms INT64, one row a change */
  int64_t *counts;         /* changes of each table asked for */
  int64_t others;          /* rows of other tables */
  int64_t ddl_count;
  int64_t *ddl; /* messages with a change of op ddl, 0-based in the input, in order */
  int64_t error_count;
  lc_row_error *errors; /* in the order of messages, one each at most; `column` is -1 */
} lc_olr_split;

/* Split a struct array (key BINARY, value BINARY, offset INT64 from 0 up, timestamp_ms INT64).
 *
 *   tables, table_count   1..10,000, in ascending order of their bytes, each once
 *   level                 as in lc_json_validate
 *
 * Work is linear in the bytes, times the logarithm of the tables where these alternate; memory is that of the output.
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY where the changes' texts would pass 2^31-1 bytes; on failure
 * *out holds nothing to free.
 */
lc_code lc_openlogreplicator_split(const lc_olr_table *tables, int32_t table_count, const struct ArrowArray *messages,
                                   int32_t level, lc_olr_split *out, lc_error *error);

void lc_openlogreplicator_free(lc_olr_split *split);
/* end cdef */

#endif

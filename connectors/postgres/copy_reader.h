/* What PostgreSQL sends in COPY mode, straight into Arrow buffers, over the libpq that the driver has loaded.
 *
 * Both functions give messages as libcore/pgoutput.h reads them: a struct array of payload BINARY and wal_start INT64.
 * hp_stream takes what a walsender sends; hp_rows takes rows of COPY ... TO STDOUT (FORMAT binary) and makes an INSERT
 * message of each, so that a snapshot's values go through the very code that the stream's go through.
 *
 * Threads: hp_load once, before all else.  A connection belongs to one thread at a time.  No function takes the GIL.
 */
#ifndef HEADRACE_POSTGRES_COPY_READER_H
#define HEADRACE_POSTGRES_COPY_READER_H

#include "libcore/types.h"

/* cdef */
enum { HP_OPEN = 0, HP_ENDED = 1, HP_BROKEN = 2, HP_MALFORMED = 3, HP_NO_MEMORY = 4 };

/* What a call met besides messages. */
typedef struct hp_event {
  int64_t keepalive_lsn; /* WAL end of a keepalive behind all messages of this call, -1: none */
  int64_t wal_end;       /* the greatest WAL end that any header told, -1: none */
  int64_t last_begin;    /* index of the last B, -1: none */
  int64_t last_commit;   /* index of the last C or c, -1: none */
  int32_t reply;         /* 1: a keepalive asks for an answer */
  int32_t state;         /* HP_OPEN; HP_ENDED: the server ended the COPY; HP_BROKEN: libpq's error says why */
} hp_event;

/* Find libpq's functions in the library at `path`.  Returns 0, or -1 with `error` filled (NUL-terminated). */
int hp_load(const char *path, char *error, size_t error_size);

/* Take what a walsender has sent: at most `rows_max` messages and, unless a single one is larger, about `bytes_max`.
 *
 *   connection  a PGconn in COPY_BOTH, as a number
 *   wait_ms     how long to wait for the first message
 *   out         released by the caller through its callback; filled only where a number above 0 is returned
 *
 * Returns the number of messages, with *event filled.
 */
int64_t hp_stream(uintptr_t connection, int64_t rows_max, int64_t bytes_max, int32_t wait_ms, struct ArrowArray *out,
                  hp_event *event);

/* Take rows of a binary COPY as INSERT messages of relation `oid`, all with `lsn` as their wal_start.
 *
 *   connection  a PGconn in COPY_OUT
 *   forms       a column each: 'b' or 't', what its values are
 *   wait_ms     how long to wait for rows in all: a call brings as many as come, so that the work on them is worth it
 *   started     in and out: 0 before the first call
 *
 * The rest as with hp_stream.
 */
int64_t hp_rows(uintptr_t connection, uint32_t oid, const char *forms, int32_t columns, int64_t lsn, int64_t rows_max,
                int64_t bytes_max, int32_t wait_ms, int32_t *started, struct ArrowArray *out, hp_event *event);
/* end cdef */

#endif

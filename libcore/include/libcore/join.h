/* The inner loop of the join's last stage: of the results that come for a key, nothing older than what came.
 *
 * Two places may answer for one fact in any order, before and after its foreign key changed; each answer carries the
 * version of the fact that it is about.  An object remembers the greatest version of each key since it was cleared,
 * which is done at the end of each epoch (libcore/join.py says why that is enough).
 *
 * Keys are equal as in compact.h: NULL equals NULL, NaN equals NaN, -0.0 equals 0.0, everything else bit by bit.
 * Memory: 8 to 16 bytes a key for the index, 16 for the entry, and the key itself with 1 byte a column, 4 more for a
 * text; lc_latest_clear keeps what 65,536 keys need and frees the rest.  An object is used by one thread at a time.
 */
#ifndef LIBCORE_JOIN_H
#define LIBCORE_JOIN_H

#include "libcore/types.h"

/* cdef */
typedef struct lc_latest lc_latest;

/* Make an object for keys of that layout.
 *
 *   key, key_count   the layout of the key columns, at least one
 *
 * Returns LC_OK with *out for lc_latest_free, LC_INVALID, or LC_NO_MEMORY.
 */
lc_code lc_latest_new(const lc_column *key, int64_t key_count, lc_latest **out, lc_error *error);
void lc_latest_free(lc_latest *latest);  /* NULL is allowed */
void lc_latest_clear(lc_latest *latest); /* forget the versions; the counter of positions goes on */

/* Which rows pass: those whose version is not below the greatest that came for their key, rows before it included.
 *
 *   batch      the key columns, then the version, int64 without NULL
 *   rows       out, room for batch->length: the rows that pass, in order; *count: how many
 *   positions  out, room for batch->length times 32 bytes: for each row that passes 24 zeros and a counter, big endian,
 *              which starts at 1 and rises for the life of the object
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY above 2^31-1 bytes of keys since the last clear; after a
 * failure nothing has changed.
 */
lc_code lc_latest_take(lc_latest *latest, const struct ArrowArray *batch, int32_t *rows, int64_t *count,
                       uint8_t *positions, lc_error *error);
/* end cdef */

#endif

/* Scatter a batch over buckets by key hash in one pass, and take rows by index; outputs own compact memory.
 *
 * slot = hash % slot_count; bucket_of_slot[slot] is the bucket (0..255) that the row goes to: a sink part, a worker's
 * share.  Rows keep their order inside a bucket.
 *
 * Contract: Hashes are those of lc_hash_rows over the key columns of the same batch; bucket_of_slot covers every slot.
 * Units: Counts are rows, slots and buckets; column sizes in bytes.
 * Ownership: Inputs are read in place and not kept; *out owns its memory and is released by its own release callback,
 *   bucket by bucket.
 * Errors: All or nothing: after a failure nothing is to be released; codes at the functions.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_SLOTS_H
#define LIBCORE_SLOTS_H

#include "libcore/types.h"

/* cdef */
#define LC_BUCKETS_MAX 256

/* Copy each row to its bucket's batch.
 *
 *   hashes          batch->length words of lc_hash_rows
 *   slot_count      1..65536
 *   bucket_of_slot  slot_count buckets
 *   out             LC_BUCKETS_MAX structs; set for buckets with rows, release = NULL for the others
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY; after a failure every out[i].release is NULL.
 */
lc_code lc_scatter(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                   const uint64_t *hashes, int32_t slot_count, const uint8_t *bucket_of_slot, struct ArrowArray *out,
                   lc_error *error);

/* Copy the rows of the given indexes, in that order; an index may come more than once.
 *
 * Returns LC_OK, LC_INVALID with error->row = the bad index's place, LC_NO_MEMORY, or LC_CAPACITY where a column
 * would exceed 2^31-1 bytes.  *out is set on LC_OK only.
 */
lc_code lc_take(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count, const int32_t *indexes,
                int64_t index_count, struct ArrowArray *out, lc_error *error);
/* end cdef */

#endif

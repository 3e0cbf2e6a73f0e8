/* A 64-bit hash of rows, the same on every machine and in every version: it decides the slot of a key for life.
 *
 * The algorithm, exactly (all arithmetic modulo 2^64; golden vectors in tests/golden/hash.json):
 *
 *   mix(x):  x ^= x >> 33;  x *= 0xff51afd7ed558ccd;  x ^= x >> 33;  x *= 0xc4ceb9fe1a85ec53;  x ^= x >> 33
 *   hash of a row:  h = 0x9e3779b97f4a7c15;  for each key column in the given order:  h = mix(h ^ word(value))
 *
 *   word(NULL)     = 0x6e756c6c6e756c6c
 *   bool, int8..64, date, time, timestamp: the value as int64 (two's complement, sign extended), in the column's unit
 *   float, double: the bits of the value as a double; -0.0 as 0.0; every NaN as 0x7ff8000000000000
 *   decimal:       by value: the unscaled integer without its trailing decimal zeros, and the scale that is left
 *                  (0 has scale 0), so 1.50 and 1.5 are equal;  w = mix((scale + 128) * 2 + (1 if negative));
 *                  then for each 64-bit limb of the magnitude, lowest first, up to the highest that is not 0, at
 *                  least one:  w = mix(w ^ limb)
 *   utf8, binary, fixed_size_binary: xxh64(bytes, seed 0)
 *
 * xxh64 is the published XXH64 (specification of xxHash, version 0.1.1), which also seals segments (segment.h).
 *
 * Contract: The answer for equal values never changes, in no version and on no machine; columns are hashed in the order
 *   that is given.
 * Units: Sizes in bytes; times in the unit of the column, so the same instant in another unit has another hash.
 * Ownership: Inputs are read in place; `hashes` is the caller's; nothing is allocated.
 * Errors: Codes at the function; lc_xxh64 cannot fail.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_HASH_H
#define LIBCORE_HASH_H

#include "libcore/types.h"

/* cdef */
/* XXH64 of `size` bytes.  Allocates nothing; data may be NULL where size is 0. */
uint64_t lc_xxh64(const void *data, int64_t size, uint64_t seed);

/* Hash the values of some columns of each row.
 *
 *   batch, columns, column_count   a struct array and the layout of its columns
 *   indexes, index_count           the key columns in key order; a column may be named more than once
 *   hashes                         out: batch->length words
 *
 * Returns LC_OK, or LC_INVALID where the batch does not fit its layout or an index is out of range.
 * Allocates nothing.
 */
lc_code lc_hash_rows(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                     const int32_t *indexes, int64_t index_count, uint64_t *hashes, lc_error *error);
/* end cdef */

#endif

/* A 128-bit digest of each row, and of a table whatever the order of its rows: two tables of equal digest are equal.
 *
 * A row's canonical bytes are its columns one after the other, by rising bytes of their names.  A column gives a tag
 * and what belongs to it, little endian, without padding; no tag's bytes are the beginning of another's, so rows that
 * differ have bytes that differ:
 *
 *   00  NULL                  01  unset: the row has no value for the column, which is not NULL
 *   02  false                 03  true
 *   04  an exact number: byte 128 * negative + limbs; byte scale; the magnitude's limbs of 8 bytes, lowest first, as
 *       many as are not 0.  By value: zeros at the end of a fraction go first, so 1.50, 1.5 and 5 as a decimal and as
 *       an integer of any width are one number each; 0 has no limb, no sign and scale 0
 *   05  float or double: the bits of the double; -0.0 as 0.0, every NaN as 7ff8000000000000
 *   06  text: int32 size in bytes, the bytes         07  binary, of fixed size too: the same
 *   08  date: int32 days since 1970                  09  time: int64 nanoseconds of the day
 *   0a  timestamp: int64 seconds since 1970, rounded down, int32 nanoseconds         0b  the same, of UTC
 *
 * The digest: 16 bytes, XXH64(bytes, seed) then XXH64(bytes, seed ^ 9e3779b97f4a7c15), each little endian.  The seed is
 * XXH64 of the names, each as int32 size and bytes, in the same order; so tables of other columns have other digests.
 * It finds faults, it is no signature: who may choose the rows can make two with one digest.
 *
 * The table's digest is the count of rows and the sum of their digests modulo 2^128.  XOR will not do: a row that is
 * there twice would vanish from it, as would any pair.  A sum forgets no row, can be made in parts, and can take a row
 * back.  Golden vectors in tests/golden/digest.json hold all of it.
 *
 * Contract: The wanted columns are given in the order of their names, the seed is made from the same names.
 * Units: Sizes in bytes; times and timestamps in the unit that the column says.
 * Ownership: The batch is read in place; `digests` and `sum` are the caller's; nothing is given out.
 * Errors: Codes at the function; no row is left out.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_DIGEST_H
#define LIBCORE_DIGEST_H

#include "libcore/types.h"

/* cdef */
/* A column to be digested; `unit` is nanoseconds for a time and units of a second for a timestamp, else ignored. */
typedef struct lc_digest_column {
  int32_t index; /* of the batch's column */
  int32_t unit;  /* TIME64: 1 or 1000 (ns a unit); TIMESTAMP: 1000000 or 1000000000 (units a second) */
  int32_t zoned; /* TIMESTAMP: 1 where it is of UTC */
} lc_digest_column;

/* Digest the rows of a batch.
 *
 *   batch, columns, column_count   a struct array and the layout of its columns
 *   wanted, wanted_count           the columns in the order of their names
 *   unset                          index of the __unset column (fixed size; bit i: column i of the batch), -1: none
 *   seed                           of the names, as above
 *   digests                        out: 16 bytes a row; NULL: only the sum is wanted
 *   sum                            out: the digests' sum modulo 2^128, low word first
 *
 * Returns LC_OK, LC_INVALID, LC_NO_MEMORY, or LC_CAPACITY where a row has 2^31 canonical bytes or more.
 * Allocates one buffer as large as the largest row.
 */
lc_code lc_digest_rows(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                       const lc_digest_column *wanted, int64_t wanted_count, int64_t unset, uint64_t seed,
                       uint8_t *digests, uint64_t sum[2], lc_error *error);
/* end cdef */

#endif

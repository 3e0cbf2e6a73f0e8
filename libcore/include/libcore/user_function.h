/* What a C function of your own must be, to run as a step of a pipeline: `[[step]] call = "libmine.so:my_function"`.
 *
 *   int my_function(struct ArrowArray *in, struct ArrowSchema *in_schema,
 *                   struct ArrowArray *out, struct ArrowSchema *out_schema, char error[256]);
 *
 * Build it without any library of ours; this header's structs are the Arrow C Data Interface:
 *
 *   cc -std=c11 -O2 -shared -fPIC -I include -o libmine.so mine.c
 *
 *   in, in_schema     a struct array with the columns of `take`, in that order, at least one row, every offset 0; a
 *                     validity buffer is NULL where no value is NULL.  Borrowed: read them, release neither
 *   out, out_schema   zeroed.  To be filled with a struct array of the columns of `gives`, in that order, with those
 *                     names and types, and exactly as many rows as came in.  Both must have a release callback, and own
 *                     their memory: a buffer of `in` must not stand in `out`
 *   error             256 bytes, zeroed: on failure one sentence, UTF-8, ended by a 0 byte
 *
 * Returns 0, or anything else with `error` filled and `out`, `out_schema` left alone.  A batch that fails is tried
 * again in halves, so that only the rows that fail alone become dead letters: rows must not depend on each other, and
 * the same rows must give the same answer again, as a restart repeats them.  One thread calls; no two calls at once.
 *
 * What comes back is checked before a byte of it goes on: release callbacks, format, names, lengths, offsets and counts
 * of NULLs, buffers that are there and none of `in`, and then every value (offsets that rise, UTF-8, decimals within
 * their precision).
 * Wrong structure stops the flow; wrong values make dead letters.  What cannot be checked is whether a buffer is as
 * long as the rows need, or whether memory was written that is not yours: that is a crash, now or later.  A crash ends
 * the worker; all start again, and the function is quarantined until another build of the library is there.
 *
 * Contract: The function is yours: it gives as many rows as came in, of the types that the pipeline names, and the same
 *   rows the same answer again.
 * Units: Lengths and offsets in rows, sizes in bytes; times in the unit of the schema that came.
 * Ownership: `in` is borrowed; what is put into `out` and `out_schema` owns its memory and is released through its own
 *   callbacks.
 * Errors: 0, or anything else with one sentence in `error`; rows that fail alone become dead letters.
 * Threads: One call at a time, of one thread.
 */
#ifndef LIBCORE_USER_FUNCTION_H
#define LIBCORE_USER_FUNCTION_H

#include "libcore/types.h"

typedef int (*lc_user_function)(struct ArrowArray *in, struct ArrowSchema *in_schema, struct ArrowArray *out,
                                struct ArrowSchema *out_schema, char error[256]);

#endif

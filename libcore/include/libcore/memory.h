/* How the process treats freed memory: a worker that makes batches all day should not give them back each time.
 *
 * glibc returns large blocks to the system at free and takes them again, zeroed, at the next batch.  Measured on a
 * virtual machine: 2 us for each page of 4 kB, which cuts scatter from 32 to 12 million rows/s at 100,000 rows a batch.
 *
 * Contract: Called once by the program that owns the process, before it starts threads.
 * Units: `bytes` of freed memory that the process may keep.
 * Ownership: Nothing is given or taken.
 * Errors: 0 where the C library has no such setting; nothing else can go wrong.
 * Threads: A setting of the whole process, not of a thread.
 */
#ifndef LIBCORE_MEMORY_H
#define LIBCORE_MEMORY_H

#include "libcore/types.h"

/* cdef */
/* Let the process keep up to `bytes` of freed memory for the next batch, in two arenas whatever the threads; so call it
 * before threads allocate.  A setting of the whole process, for the program that owns it; a library call never makes
 * it.  Returns 1, or 0 where the C library has no such setting (then nothing changes). */
int32_t lc_keep_freed(int64_t bytes);
/* end cdef */

#endif

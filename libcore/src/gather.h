/* Copy chosen rows of one column into a column of a new batch: the inner loop of slots and compact. */
#ifndef LIBCORE_GATHER_H
#define LIBCORE_GATHER_H

#include "view.h"

/* Copy rows[0..count) of `view` into child c of `out`, which lc_batch_new made with at least `count` rows and that
 * column's layout.  `optional`: a row below 0 means NULL.  Returns LC_OK, LC_NO_MEMORY, or LC_CAPACITY where a variable
 * column would exceed 2^31-1 bytes. */
lc_code lc_gather(const lc_view *view, const int32_t *rows, int64_t count, bool optional, struct ArrowArray *out,
                  int64_t c, lc_error *error);

#endif

/* The words every header of libcore shares: the Arrow C Data Interface, result codes, errors and column types.
 *
 * Contract: Every batch is a struct array of the Arrow C Data Interface without NULL rows of its own; its children are
 *   described, in order, by as many lc_column; slices (offset other than 0) are fine, alignment is not needed.
 * Units: A time has the unit of its column, micro- or nanoseconds; sizes are in bytes, rows and columns count from 0.
 * Ownership: Inputs are read in place and never released or kept; an output ArrowArray is released by its consumer
 *   through its own release callback; what a result struct lists besides is freed by the function its comment names.
 * Errors: A call answers an lc_code and, on anything but LC_OK, fills the lc_error, which may be NULL; bad rows among
 *   good ones are data, listed in the result where a header says so.
 * Threads: No global state; every function may run on any thread at once with others, as long as two calls do not write
 *   the same output.
 */
#ifndef LIBCORE_TYPES_H
#define LIBCORE_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* cdef */
struct ArrowSchema {
  const char *format;
  const char *name;
  const char *metadata;
  int64_t flags;
  int64_t n_children;
  struct ArrowSchema **children;
  struct ArrowSchema *dictionary;
  void (*release)(struct ArrowSchema *);
  void *private_data;
};

struct ArrowArray {
  int64_t length;
  int64_t null_count;
  int64_t offset;
  int64_t n_buffers;
  int64_t n_children;
  const void **buffers;
  struct ArrowArray **children;
  struct ArrowArray *dictionary;
  void (*release)(struct ArrowArray *);
  void *private_data;
};

/* What a call answers.  Everything but LC_OK fills the lc_error. */
typedef enum lc_code {
  LC_OK = 0,
  LC_NO_MEMORY = 1, /* an allocation failed; nothing was written to the output */
  LC_INVALID = 2,   /* an argument breaks the contract (a type, a length, a NULL) */
  LC_DATA = 3,      /* the data is bad where the contract gives no per-row answer */
  LC_CAPACITY = 4,  /* a size does not fit (an output above 2^31-1 bytes a column, a bound of the caller) */
  LC_CORRUPT = 5    /* bytes do not match their checksum or format */
} lc_code;

/* Where and why a call failed.  Owned by the caller; written only on failure. */
typedef struct lc_error {
  int64_t row;       /* 0-based row, -1 where none is to blame */
  int64_t position;  /* 0-based byte in that row's raw value, -1 where unknown */
  char message[192]; /* one sentence with the values found; NUL-terminated */
} lc_error;

/* The Arrow layouts that libcore reads and writes. */
typedef enum lc_type {
  LC_TYPE_BOOL = 1,
  LC_TYPE_INT8 = 2,
  LC_TYPE_INT16 = 3,
  LC_TYPE_INT32 = 4,
  LC_TYPE_INT64 = 5,
  LC_TYPE_FLOAT32 = 6,
  LC_TYPE_FLOAT64 = 7,
  LC_TYPE_DATE32 = 8,     /* days since 1970-01-01 */
  LC_TYPE_TIME64 = 9,     /* micro- or nanoseconds of the day */
  LC_TYPE_TIMESTAMP = 10, /* micro- or nanoseconds since 1970-01-01 */
  LC_TYPE_DECIMAL128 = 11,
  LC_TYPE_DECIMAL256 = 12,
  LC_TYPE_UTF8 = 13,   /* int32 offsets */
  LC_TYPE_BINARY = 14, /* int32 offsets */
  LC_TYPE_FIXED = 15   /* fixed_size_binary of `width` bytes */
} lc_type;

/* The layout of one column. */
typedef struct lc_column {
  int32_t type;      /* lc_type */
  int32_t width;     /* bytes a value; only for LC_TYPE_FIXED, else ignored */
  int32_t precision; /* decimal digits; only for decimals */
  int32_t scale;     /* decimal digits after the point; only for decimals */
} lc_column;
/* end cdef */

#endif

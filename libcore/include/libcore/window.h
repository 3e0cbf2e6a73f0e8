/* The inner loops of windows: number the groups of a batch, sum columns group by group, divide exactly.
 *
 * Nothing is rounded but the low part of a sum of floats and the last digit of an average.  Sums wrap at the width of
 * their output column; callers choose one in which 2^63 rows have room, so partial sums can be added and taken away in
 * any order and the result is right in the end.
 *
 * Contract: Groups are numbered by lc_window_groups or the caller, 0..group_count-1; output layouts have room for the
 *   sums.
 * Units: Weights count rows; sums keep the scale of their column; averages have the scale of the output column.
 * Ownership: Inputs are read in place and not kept; *out owns its memory and is released by its own release callback.
 * Errors: Overflow of a sum wraps and is the caller's choice of layout; an average that does not fit is NULL and false;
 *   codes at the functions.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_WINDOW_H
#define LIBCORE_WINDOW_H

#include "libcore/types.h"

/* cdef */
/* Number the groups of rows with equal values in some columns, in the order in which they come.
 *
 * Equal means: NULL is equal to NULL, NaN to NaN, -0.0 to 0.0, everything else bit by bit.
 *
 *   key, key_count  indexes of the columns that name a group; none: all rows are one group
 *   groups          out, batch->length numbers from 0 on
 *   firsts          out, room for batch->length: the first row of each group
 *   group_count     out
 *
 * Returns LC_OK, LC_INVALID (a column that is not there, 2^30 rows or more) or LC_NO_MEMORY.
 */
lc_code lc_window_groups(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                         const int32_t *key, int64_t key_count, int32_t *groups, int32_t *firsts, int64_t *group_count,
                         lc_error *error);

/* What is summed.  `weight` is 1, or the value of the batch's weight column. */
typedef enum lc_window_kind {
  LC_WINDOW_WEIGHT = 1, /* weight -> INT64 */
  LC_WINDOW_VALID = 2,  /* weight of rows with a value -> INT64 */
  /* weight * value: INT8..INT64 -> INT64, DECIMAL128 or 256; DECIMAL128 -> the same or 256; DECIMAL256 -> the same.
   * Scales are the caller's business. */
  LC_WINDOW_SUM = 3,
  /* weight * value of finite FLOAT32 or FLOAT64 -> two FLOAT64: the sum, and what rounding took from it (two-sum).
   * `low`: a FLOAT64 column of such low parts to be added too, or -1 */
  LC_WINDOW_FLOAT = 4,
  LC_WINDOW_NAN = 5, /* weight of rows with NaN, and with the infinities -> INT64 */
  LC_WINDOW_PLUS_INFINITY = 6,
  LC_WINDOW_MINUS_INFINITY = 7,
  LC_WINDOW_MAX = 8 /* greatest INT64 or TIMESTAMP -> the same; NULL where a group has no value */
} lc_window_kind;

typedef struct lc_window_sum {
  int32_t kind;   /* lc_window_kind */
  int32_t column; /* of the batch; ignored for LC_WINDOW_WEIGHT */
  int32_t low;    /* LC_WINDOW_FLOAT only */
} lc_window_sum;

/* Sum columns of a batch group by group; NULLs are passed over.
 *
 *   groups             the group of each row, 0..group_count-1
 *   weight             a column INT8 or INT64 without NULL, or -1: each row counts once
 *   sums, sum_count    what to sum
 *   out_columns        layouts of the output: one a sum, two for LC_WINDOW_FLOAT; out_count of them
 *   out                group_count rows
 *
 * Returns LC_OK, LC_NO_MEMORY, or LC_INVALID: with error->row for a group out of range, with -1 for layouts that do
 * not fit.  *out is set on LC_OK only.
 */
lc_code lc_window_sums(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                       const int32_t *groups, int64_t group_count, int32_t weight, const lc_window_sum *sums,
                       int64_t sum_count, const lc_column *out_columns, int64_t out_count, struct ArrowArray *out,
                       lc_error *error);

/* sum / count, rounded half to even.
 *
 *   batch, columns  two columns without NULL: DECIMAL128 or 256, and INT64
 *   out_columns     two: DECIMAL128 or 256 with a scale that is at most 18 above or below the sum's, and BOOL
 *   out             the quotient, NULL where the count is not above 0 or the precision does not hold it; and false in
 *                   the latter case, else true
 *
 * Returns LC_OK, LC_INVALID or LC_NO_MEMORY; *out is set on LC_OK only.
 */
lc_code lc_window_averages(const struct ArrowArray *batch, const lc_column *columns, const lc_column *out_columns,
                           struct ArrowArray *out, lc_error *error);
/* end cdef */

#endif

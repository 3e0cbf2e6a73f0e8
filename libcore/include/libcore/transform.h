/* Exact arithmetic on decimal columns, with the result's digits and its rounding said beforehand.
 *
 * Every result is the exact rational number, rounded once: half-even and half-up (ties away from zero) or down
 * (towards zero).  A result that has more digits than its type is an error of its row, never cut, never wrapped.
 * Between input and result there is no bound: what can come of 76 digits fits the numbers used inside.
 *
 * Contract: Same input, same output; a row's result depends on that row alone.
 * Units: Decimals as unscaled integers of their column's scale; days since 1970 in as-of keys.
 * Ownership: Inputs are borrowed; *out is the caller's, released through its own callback.
 * Errors: An lc_transform_code for a row; an lc_code with lc_error where nothing could be computed.
 * Threads: No state; any thread, several at once.
 */
#ifndef LIBCORE_TRANSFORM_H
#define LIBCORE_TRANSFORM_H

#include "libcore/types.h"

/* cdef */
typedef enum lc_arithmetic { LC_ADD = 0, LC_SUBTRACT = 1, LC_MULTIPLY = 2, LC_DIVIDE = 3 } lc_arithmetic;
typedef enum lc_rounding { LC_HALF_EVEN = 0, LC_HALF_UP = 1, LC_DOWN = 2 } lc_rounding;

/* Why a row has no result. */
typedef enum lc_transform_code {
  LC_TRANSFORM_RANGE = 1,  /* more digits than the result's type */
  LC_TRANSFORM_ZERO = 2,   /* division by zero */
  LC_TRANSFORM_MISSING = 3 /* no factor for the row: a rate or a unit that the table does not have */
} lc_transform_code;

/* Compute with two decimal columns, row by row.
 *
 *   batch, columns       a struct array of two decimal columns of any layouts, and these
 *   operation, rounding  an lc_arithmetic, an lc_rounding
 *   precision, scale     of the result: 1..76, 0..precision; up to 38 gives DECIMAL128
 *   out                  a struct array of one column; NULL where an input is NULL or the row has an error
 *   codes                out, one a row: 0 or an lc_transform_code
 *
 * Returns LC_OK, LC_INVALID or LC_NO_MEMORY; on failure *out is not set.
 */
lc_code lc_decimal_arithmetic(const struct ArrowArray *batch, const lc_column *columns, int32_t operation,
                              int32_t rounding, int32_t precision, int32_t scale, struct ArrowArray *out,
                              int32_t *codes, lc_error *error);

/* (a * x + b) / c for a decimal column, with factors chosen for each row: rates, units.
 *
 *   batch, columns         a struct array of a decimal column x and an INT32 column: the row's factors, NULL or below
 *                          0: none (MISSING, where x is not NULL)
 *   factors, factor_count  for each: a, b, c as 32 bytes little endian, two's complement; the result is in units of
 *                          the result's last digit, x in units of its own.  c is not 0
 *
 * The rest as above; LC_INVALID too where a row's number is factor_count or more, or a c is 0.
 */
lc_code lc_decimal_affine(const struct ArrowArray *batch, const lc_column *columns, const uint8_t *factors,
                          int64_t factor_count, int32_t rounding, int32_t precision, int32_t scale,
                          struct ArrowArray *out, int32_t *codes, lc_error *error);

/* As-of look-up: the place of the last key that is not above the probe and has its upper 32 bits; -1: there is none.
 *
 *   keys, key_count      rising: group << 32 | (day + 2^31), so that days below 0 come first
 *   probes, probe_count  the same form; found: out, one a probe
 *
 * Allocates nothing.
 */
void lc_asof_search(const int64_t *keys, int64_t key_count, const int64_t *probes, int64_t probe_count, int32_t *found);
/* end cdef */

#endif

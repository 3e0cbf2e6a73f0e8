/* Exact decimals: text and two's complement bytes to decimal128/256 and back; nothing is ever rounded.
 *
 * Contract: Texts are ASCII digits in the form below; scales and precisions are those of the column that is wanted.
 * Units: Precision and scale in decimal digits.
 * Ownership: Inputs are read in place and not kept; *out owns its memory and is released by its own release callback;
 *   `codes` is the caller's, one a row.
 * Errors: A bad value is NULL with its reason in `codes`; the call itself fails for what the function says.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_DECIMAL_H
#define LIBCORE_DECIMAL_H

#include "libcore/types.h"

/* cdef */
/* Text to decimals.  A text is an optional sign, digits with an optional point, an optional exponent.
 *
 *   values     a struct array with one UTF8 (or BINARY) child
 *   precision  1..76; up to 38 gives DECIMAL128, above DECIMAL256
 *   scale      0..precision
 *   out        a struct array with one decimal child of as many rows; NULL where the input is NULL or in error
 *   codes      out, one a row: 0, or an lc_row_code: TYPE (no number), SCALE (a digit other than 0 beyond the scale),
 *              RANGE (more digits than the precision, NaN, an infinity)
 *
 * Returns LC_OK, LC_INVALID or LC_NO_MEMORY; on failure *out is not set.
 */
lc_code lc_decimal_read_text(const struct ArrowArray *values, int32_t precision, int32_t scale, struct ArrowArray *out,
                             int32_t *codes, lc_error *error);

/* Big-endian two's complement integers at `wire_scale` to decimals; the rest as above.  No bytes mean 0. */
lc_code lc_decimal_read_bytes(const struct ArrowArray *values, int32_t wire_scale, int32_t precision, int32_t scale,
                              struct ArrowArray *out, int32_t *codes, lc_error *error);

/* Decimals of one layout to text with exactly `scale` fraction digits ("-1.50"): out has one UTF8 child. */
lc_code lc_decimal_write_text(const struct ArrowArray *values, const lc_column *layout, struct ArrowArray *out,
                              lc_error *error);
/* end cdef */

#endif

/* Strict JSON (RFC 8259, UTF-8): is it valid, and if not, at which byte.
 *
 * UTF-8 is judged first over the whole value, then syntax and depth (64 brackets at most).  NUL bytes, raw control
 * characters in strings, leading zeros, NaN words, trailing commas and text behind the value are faults; lone surrogate
 * escapes (\ud800) are valid here, because only a text that is to be stored has to reject them.
 *
 * Contract: Any bytes may come; nothing is kept of them.
 * Units: Positions are 0-based bytes in the value.
 * Ownership: Values are read in place; `codes` and `positions` are the caller's; nothing is allocated.
 * Errors: A bad value is a code in `codes`, never a failure of the call.
 * Threads: No state but the arguments'; any number of calls at once, as long as no two write the same output.
 */
#ifndef LIBCORE_JSON_H
#define LIBCORE_JSON_H

#include "libcore/types.h"

/* cdef */
/* Why a value or a message gave no row; the numbers are those of libcore.decode_types.ErrorCode. */
typedef enum lc_row_code {
  LC_ROW_SYNTAX = 1,
  LC_ROW_UTF8 = 2,
  LC_ROW_DEPTH = 3,
  LC_ROW_DUPLICATE = 4,
  LC_ROW_TYPE = 5,
  LC_ROW_RANGE = 6,
  LC_ROW_SCALE = 7,
  LC_ROW_SURROGATE = 8,
  LC_ROW_KEY = 9,
  LC_ROW_OP = 10,
  LC_ROW_BEFORE = 11,
  LC_ROW_BASE64 = 12,
  LC_ROW_ARRAY = 13
} lc_row_code;

/* Judge every value of a struct array with one BINARY child; a NULL value is valid.
 *
 *   level      0 the fastest this machine has, 1 scalar, 2 SSE4.2, 3 AVX2 (tests force one; LC_INVALID where absent)
 *   codes      out, one a row: 0 valid, else SYNTAX, UTF8 or DEPTH
 *   positions  out, one a row: 0-based byte of the fault, -1 for a valid value.  SYNTAX: the first byte that cannot go
 *              on, the length where the text is cut short; UTF8: the first byte of the malformed sequence; DEPTH: of
 *              the bracket
 *
 * Allocates nothing.  Returns LC_OK or LC_INVALID.
 */
lc_code lc_json_validate(const struct ArrowArray *values, int32_t level, int32_t *codes, int64_t *positions,
                         lc_error *error);
/* end cdef */

#endif

/* Exact numbers from text: 256-bit magnitudes, decimals, canonical numeric text, doubles; no locale, no rounding but
 * the double's own (nearest, ties to even). */
#ifndef LIBCORE_NUMBER_H
#define LIBCORE_NUMBER_H

#include "common.h"

#define LC_NUMERIC_DIGITS_MAX 20000 /* digits of an expanded numeric text */

typedef struct lc_u256 {
  uint64_t words[4]; /* least significant first */
} lc_u256;

bool lc_u256_mul_add(lc_u256 *value, uint64_t factor, uint64_t addend); /* false: above 2^256-1 */
uint64_t lc_u256_divide(lc_u256 *value, uint64_t divisor);              /* the remainder */
int lc_u256_compare(const lc_u256 *a, const lc_u256 *b);

/* A decimal column: where values end. */
typedef struct lc_decimal_target {
  int32_t precision, scale;
  int32_t width; /* bytes a value: 16 or 32 */
  lc_u256 limit; /* 10^precision: magnitudes stay below */
} lc_decimal_target;

lc_decimal_target lc_decimal_target_make(int32_t precision, int32_t scale, bool wide);
void lc_decimal_store(const lc_u256 *magnitude, bool negative, int32_t width,
                      uint8_t *out); /* little endian two's complement */

/* These four answer 0 or an lc_row_code: TYPE (no number), SCALE, RANGE, or -1 for no memory. */
int lc_decimal_from_text(const uint8_t *p, const uint8_t *end, const lc_decimal_target *target, uint8_t *out);
int lc_decimal_from_bytes(const uint8_t *bytes, size_t size, int32_t wire_scale, const lc_decimal_target *target,
                          uint8_t *out);
int lc_numeric_from_text(const uint8_t *p, const uint8_t *end, lc_buffer *out);
int lc_numeric_from_bytes(const uint8_t *bytes, size_t size, int32_t scale, lc_buffer *out);

/* The text of an integer of `width` bytes (16, 32) at a scale: "-1.50".  Writes at most 80 bytes; returns their count.
 */
size_t lc_decimal_text(const uint8_t *value, int32_t width, int32_t scale, uint8_t *out);

/* Nearest double of a valid JSON number; infinite where it is too large. */
double lc_double_from_text(const uint8_t *p, const uint8_t *end);
/* Nearest float of such a text; `value` is its double, which may lie on the other side of where two floats part. */
float lc_float_of_text(double value, const uint8_t *p, const uint8_t *end);

/* Standard alphabet, padded, no spaces.  Writes at most size / 4 * 3 bytes; returns their count, or -1. */
int64_t lc_base64_decode(const uint8_t *p, size_t size, uint8_t *out);

#endif

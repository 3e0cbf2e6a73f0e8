/* Whole numbers of up to 832 bits, for exact results between decimals: magnitudes only, no allocation. */
#ifndef LIBCORE_TRANSFORM_BIG_H
#define LIBCORE_TRANSFORM_BIG_H

#include "common.h"

/* The largest number is the one before a division: 255 bits * 10^152 (505 bits), or 2 * 255 bits * 10^76: 763 bits. */
#define BIG_WORDS 13

typedef struct lc_big {
  int32_t used; /* words up to the highest that is not 0; 0: the number 0 */
  uint64_t words[BIG_WORDS];
} lc_big;

void lc_big_set(lc_big *to, const uint64_t *words, int32_t count);
void lc_big_power_of_ten(lc_big *to, int32_t exponent); /* 0..152 */
/* `to` must be none of the others, and the result must fit, which the caller proves. */
void lc_big_multiply(const lc_big *a, const lc_big *b, lc_big *to);
void lc_big_add(const lc_big *a, const lc_big *b, lc_big *to);
void lc_big_subtract(const lc_big *a, const lc_big *b, lc_big *to); /* a >= b */
int lc_big_compare(const lc_big *a, const lc_big *b);
/* a / b, b not 0; *half: the rest beside half of b: -1, 0, 1 (below, equal, above); *exact: there is no rest. */
void lc_big_divide(const lc_big *a, const lc_big *b, lc_big *quotient, int *half, bool *exact);

#endif

/* Exact division of decimal sums by counts, rounded half to even: magnitudes in 64-bit limbs, lowest first. */
#include "libcore/window.h"
#include "view.h"

#define LIMBS 6 /* 256 bits of a sum times 10^18 */

typedef unsigned __int128 u128;

typedef struct division {
  uint64_t factor;         /* what the sum is multiplied with: 10^(scale of the output - scale of the sum), or 1 */
  uint64_t divisor_factor; /* the same for the count, where the output's scale is the smaller one */
  uint64_t most[4];        /* greatest magnitude of the output's precision */
} division;

/* 1 for negative digits. */
static uint64_t power_of_ten(int32_t digits) {
  uint64_t power = 1;
  while (digits-- > 0)
    power *= 10;
  return power;
}

static void multiply(uint64_t *limbs, int count, uint64_t factor) {
  u128 carry = 0;
  for (int i = 0; i < count; i++) {
    carry += (u128)limbs[i] * factor;
    limbs[i] = (uint64_t)carry;
    carry >>= 64;
  }
}

/* limbs /= divisor; returns the rest.  divisor < 2^64. */
static u128 divide_short(uint64_t *limbs, uint64_t divisor) {
  u128 rest = 0;
  for (int i = LIMBS - 1; i >= 0; i--) {
    u128 part = rest << 64 | limbs[i];
    limbs[i] = (uint64_t)(part / divisor);
    rest = part % divisor;
  }
  return rest;
}

/* The same for divisors up to 2^127, a bit at a time: counts above 2^63 / 10^18 of a smaller scale are rare. */
static u128 divide_long(uint64_t *limbs, u128 divisor) {
  u128 rest = 0;
  for (int bit = 64 * LIMBS - 1; bit >= 0; bit--) {
    rest = rest << 1 | (limbs[bit / 64] >> (bit % 64) & 1);
    uint64_t mask = (uint64_t)1 << (bit % 64);
    limbs[bit / 64] &= ~mask;
    if (rest >= divisor) {
      rest -= divisor;
      limbs[bit / 64] |= mask;
    }
  }
  return rest;
}

static void increment(uint64_t *limbs) {
  for (int i = 0; i < LIMBS && ++limbs[i] == 0; i++) {
  }
}

static bool within(const uint64_t *limbs, const uint64_t *most) {
  if (limbs[4] != 0 || limbs[5] != 0) return false;
  for (int i = 3; i >= 0; i--)
    if (limbs[i] != most[i]) return limbs[i] < most[i];
  return true;
}

static void store(uint64_t *limbs, bool negative, int32_t width, uint8_t *to) {
  uint64_t carry = 1;
  for (int i = 0; negative && i < 4; i++) {
    limbs[i] = ~limbs[i] + carry;
    carry = carry && limbs[i] == 0;
  }
  memcpy(to, limbs, (size_t)width);
}

/* One quotient; false where the precision does not hold it.  count > 0. */
static bool average(const division *d, const uint8_t *sum, int32_t sum_width, int64_t count, int32_t width,
                    uint8_t *to) {
  uint64_t limbs[LIMBS] = {0};
  bool negative = lc_load_decimal(sum, sum_width, limbs);
  multiply(limbs, LIMBS, d->factor);
  u128 divisor = (u128)(uint64_t)count * d->divisor_factor; /* < 2^63 * 10^18 < 2^123 */
  u128 rest = divisor >> 64 ? divide_long(limbs, divisor) : divide_short(limbs, (uint64_t)divisor);
  if (2 * rest > divisor || (2 * rest == divisor && (limbs[0] & 1))) increment(limbs);
  if (!within(limbs, d->most)) return false;
  store(limbs, negative, width, to);
  return true;
}

static bool is_decimal(const lc_column *column) {
  return column->type == LC_TYPE_DECIMAL128 || column->type == LC_TYPE_DECIMAL256;
}

static lc_code prepare(const lc_column *columns, const lc_column *out_columns, division *d, lc_error *error) {
  int32_t shift = out_columns[0].scale - columns[0].scale;
  bool good = is_decimal(&columns[0]) && columns[1].type == LC_TYPE_INT64 && is_decimal(&out_columns[0]) &&
              out_columns[1].type == LC_TYPE_BOOL && lc_column_valid(&out_columns[0]);
  if (!good || shift < -18 || shift > 18)
    return lc_fail(error, LC_INVALID, -1, -1,
                   "expected a decimal sum, an int64 count, a decimal of about that scale and a bool");
  *d = (division){.factor = power_of_ten(shift), .divisor_factor = power_of_ten(-shift)};
  d->most[0] = 1;
  for (int32_t digit = 0; digit < out_columns[0].precision; digit++)
    multiply(d->most, 4, 10);
  for (int i = 0; i < 4 && d->most[i]-- == 0; i++) { /* minus 1; the low limb of 10^64 and above is 0, so it borrows */
  }
  return LC_OK;
}

lc_code lc_window_averages(const struct ArrowArray *batch, const lc_column *columns, const lc_column *out_columns,
                           struct ArrowArray *out, lc_error *error) {
  division d = {0};
  lc_code code = lc_check_batch(batch, columns, 2, error);
  if (code == LC_OK) code = prepare(columns, out_columns, &d, error);
  struct ArrowArray made;
  if (code == LC_OK) code = lc_batch_new(&made, out_columns, 2, batch->length, error);
  if (code != LC_OK) return code;
  lc_view sums = lc_view_of(batch, columns, 0), counts = lc_view_of(batch, columns, 1);
  uint8_t *values = lc_child_values(&made, 0), *validity = lc_child_validity(&made, 0);
  uint8_t *fits = lc_child_values(&made, 1);
  int32_t width = lc_type_width(&out_columns[0]);
  for (int64_t row = 0; row < batch->length; row++) {
    int64_t count = lc_load_i64(counts.values + 8 * row);
    bool good = count > 0 && average(&d, sums.values + (int64_t)sums.width * row, sums.width, count, width,
                                     values + (int64_t)width * row);
    if (!good) lc_bit_clear(validity, row);
    if (good || count <= 0) lc_bit_set(fits, row);
  }
  lc_batch_finish(&made, batch->length);
  *out = made;
  return LC_OK;
}

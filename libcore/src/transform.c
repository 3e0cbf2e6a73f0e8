/* Decimal arithmetic: each row's exact rational number as numerator and denominator, then one division and rounding. */
#include "libcore/transform.h"

#include "number.h"
#include "scan.h"
#include "transform_big.h"
#include "view.h"

typedef struct sink {
  lc_decimal_target target;
  int32_t rounding;
  uint8_t *values, *validity;
  int32_t *codes;
} sink;

static lc_code sink_new(sink *s, int32_t rounding, int32_t precision, int32_t scale, int64_t rows, int32_t *codes,
                        struct ArrowArray *out, lc_error *error) {
  lc_column layout = {precision <= 38 ? LC_TYPE_DECIMAL128 : LC_TYPE_DECIMAL256, 0, precision, scale};
  if (!lc_column_valid(&layout) || rounding < LC_HALF_EVEN || rounding > LC_DOWN)
    return lc_fail(error, LC_INVALID, -1, -1, "no decimal(%d,%d) with rounding %d", precision, scale, rounding);
  lc_code code = lc_batch_new(out, &layout, 1, rows, error);
  if (code != LC_OK) return code;
  *s = (sink){.target = lc_decimal_target_make(precision, scale, precision > 38),
              .rounding = rounding,
              .values = lc_child_values(out, 0),
              .validity = lc_child_validity(out, 0),
              .codes = codes};
  return LC_OK;
}

static void put_nothing(sink *s, int64_t row, int32_t code) {
  s->codes[row] = code;
  lc_bit_clear(s->validity, row);
}

static void put_quotient(sink *s, int64_t row, const lc_big *numerator, const lc_big *denominator, bool negative) {
  lc_big quotient;
  int half;
  bool exact;
  lc_big_divide(numerator, denominator, &quotient, &half, &exact);
  bool odd = quotient.used > 0 && (quotient.words[0] & 1);
  bool up = !exact && s->rounding != LC_DOWN && (half > 0 || (half == 0 && (s->rounding == LC_HALF_UP || odd)));
  lc_u256 magnitude = {{0}};
  if (quotient.used > 4) {
    put_nothing(s, row, LC_TRANSFORM_RANGE);
    return;
  }
  memcpy(magnitude.words, quotient.words, (size_t)quotient.used * 8);
  if (up && !lc_u256_mul_add(&magnitude, 1, 1)) magnitude = s->target.limit; /* above every limit */
  if (lc_u256_compare(&magnitude, &s->target.limit) >= 0) {
    put_nothing(s, row, LC_TRANSFORM_RANGE);
    return;
  }
  bool zero = (magnitude.words[0] | magnitude.words[1] | magnitude.words[2] | magnitude.words[3]) == 0;
  lc_decimal_store(&magnitude, negative && !zero, s->target.width, s->values + s->target.width * row);
  s->codes[row] = 0;
}

static bool load(const uint8_t *at, int32_t width, lc_big *to) {
  uint64_t words[4];
  bool negative = lc_load_decimal(at, width, words);
  lc_big_set(to, words, 4);
  return negative;
}

/* a + b with signs: the magnitude of the sum, and whether it is below 0. */
static bool add_signed(const lc_big *a, bool a_negative, const lc_big *b, bool b_negative, lc_big *sum) {
  if (a_negative == b_negative) {
    lc_big_add(a, b, sum);
    return a_negative;
  }
  if (lc_big_compare(a, b) >= 0) {
    lc_big_subtract(a, b, sum);
    return a_negative;
  }
  lc_big_subtract(b, a, sum);
  return b_negative;
}

/* Powers of ten by which operands and result are brought to one scale; they are the same for all rows. */
typedef struct scaling {
  lc_big left, right; /* add, subtract: both operands to the larger scale */
  lc_big up, down;    /* then: numerator * up, denominator * down */
} scaling;

static void scaling_make(scaling *s, int32_t operation, int32_t left, int32_t right, int32_t result) {
  int32_t most = left > right ? left : right, shift = result - most;
  lc_big_power_of_ten(&s->left, operation <= LC_SUBTRACT ? most - left : 0);
  lc_big_power_of_ten(&s->right, operation <= LC_SUBTRACT ? most - right : 0);
  if (operation == LC_MULTIPLY) shift = result - left - right;
  if (operation == LC_DIVIDE) shift = result - left + right;
  lc_big_power_of_ten(&s->up, shift > 0 ? shift : 0);
  lc_big_power_of_ten(&s->down, shift < 0 ? -shift : 0);
}

static void compute(sink *out, int64_t row, int32_t operation, const scaling *s, const lc_big *a, bool a_negative,
                    const lc_big *b, bool b_negative) {
  lc_big first, second, numerator, denominator;
  bool negative = a_negative != b_negative;
  if (operation == LC_DIVIDE) {
    if (b->used == 0) {
      put_nothing(out, row, LC_TRANSFORM_ZERO);
      return;
    }
    lc_big_multiply(a, &s->up, &numerator);
    lc_big_multiply(b, &s->down, &denominator);
    put_quotient(out, row, &numerator, &denominator, negative);
    return;
  }
  if (operation == LC_MULTIPLY) {
    lc_big_multiply(a, b, &first);
  } else {
    lc_big left, right;
    lc_big_multiply(a, &s->left, &left);
    lc_big_multiply(b, &s->right, &right);
    negative = add_signed(&left, a_negative, &right, operation == LC_SUBTRACT ? !b_negative : b_negative, &first);
  }
  lc_big_multiply(&first, &s->up, &second);
  put_quotient(out, row, &second, &s->down, negative);
}

/* The same powers, and the first magnitude that is too large, in one word each; for 16-byte columns. */
typedef struct short_scaling {
  bool fits;
  int64_t left, right, up;
  uint64_t down, limit;
  uint64_t reciprocal; /* of `down` above 1: 2^(64 + shift) over it, rounded up */
  unsigned shift;
} short_scaling;

static short_scaling short_scaling_make(const lc_column *columns, int32_t operation, const sink *out, int32_t scale,
                                        int32_t precision) {
  int32_t left = columns[0].scale, right = columns[1].scale, most = left > right ? left : right;
  bool sums = operation <= LC_SUBTRACT;
  int32_t shift = scale - (sums ? most : left + right);
  bool narrow = columns[0].type == LC_TYPE_DECIMAL128 && columns[1].type == LC_TYPE_DECIMAL128;
  if (operation == LC_DIVIDE || !narrow || out->target.width != 16 || shift > 18 || shift < -18 || left > 18 ||
      right > 18)
    return (short_scaling){.fits = false};
  short_scaling s = {.fits = true,
                     .left = (int64_t)lc_pow10((unsigned)(sums ? most - left : 0)),
                     .right = (int64_t)lc_pow10((unsigned)(sums ? most - right : 0)),
                     .up = (int64_t)lc_pow10((unsigned)(shift > 0 ? shift : 0)),
                     .down = lc_pow10((unsigned)(shift < 0 ? -shift : 0)),
                     .limit = precision < 20 ? lc_pow10((unsigned)precision) : UINT64_MAX};
  if (s.down > 1) {
    s.shift = 63u - (unsigned)__builtin_clzll(s.down);
    s.reciprocal = (uint64_t)(((unsigned __int128)1 << (64 + s.shift)) / s.down + 1);
  }
  return s;
}

/* value / s->down without dividing, for values up to 2^63: `reciprocal` is too large by less than 2^(shift + 1) over
 * 2^(64 + shift), so that the product is too large by less than 1 / down. */
static inline uint64_t short_divide(const short_scaling *s, uint64_t value) {
  if (s->down == 1) return value;
  return (uint64_t)((unsigned __int128)s->reciprocal * value >> 64) >> s->shift;
}

/* The result of two numbers of 63 bits as a magnitude of 64; false: take the general way. */
static inline bool short_result(const short_scaling *s, int32_t operation, int32_t rounding, int64_t x, int64_t y,
                                uint64_t *magnitude, bool *negative) {
  int64_t sum;
  if (operation == LC_MULTIPLY) {
    if (__builtin_mul_overflow(x, y, &sum)) return false;
  } else {
    if (__builtin_mul_overflow(x, s->left, &x) || __builtin_mul_overflow(y, s->right, &y)) return false;
    if (operation == LC_ADD ? __builtin_add_overflow(x, y, &sum) : __builtin_sub_overflow(x, y, &sum)) return false;
  }
  if (__builtin_mul_overflow(sum, s->up, &sum)) return false;
  uint64_t whole = sum < 0 ? 0 - (uint64_t)sum : (uint64_t)sum;
  uint64_t quotient = short_divide(s, whole), rest = whole - quotient * s->down, to_next = s->down - rest;
  if (rounding != LC_DOWN)
    quotient += (rest > to_next) | ((rest == to_next) & ((rounding == LC_HALF_UP) | (quotient & 1)));
  *magnitude = quotient;
  *negative = sum < 0;
  return true;
}

/* Rows from `row` on whose numbers all fit 63 bits, as nearly all money does; the first row for the general way. */
static inline int64_t short_rows(const sink *out, int64_t row, int32_t operation, const short_scaling *scaling,
                                 const lc_view *left, const lc_view *right) {
  const short_scaling s = *scaling; /* by value: what is stored below could change what a pointer leads to */
  const uint8_t *a = left->values, *b = right->values;
  uint8_t *values = out->values;
  int32_t *codes = out->codes, rounding = out->rounding;
  int64_t rows = left->rows;
  bool whole = left->validity == NULL && right->validity == NULL;
  for (; row < rows; row++) {
    if (!whole && (!lc_view_valid(left, row) || !lc_view_valid(right, row))) return row;
    int64_t x = lc_load_i64(a + 16 * row), y = lc_load_i64(b + 16 * row);
    if (lc_load_i64(a + 16 * row + 8) != (x < 0 ? -1 : 0) || lc_load_i64(b + 16 * row + 8) != (y < 0 ? -1 : 0))
      return row;
    uint64_t magnitude;
    bool negative;
    if (!short_result(&s, operation, rounding, x, y, &magnitude, &negative) || magnitude >= s.limit) return row;
    uint64_t words[2] = {negative ? 0 - magnitude : magnitude, negative && magnitude != 0 ? UINT64_MAX : 0};
    memcpy(values + 16 * row, &words[0], 8);
    memcpy(values + 16 * row + 8, &words[1], 8);
    codes[row] = 0;
  }
  return row;
}

/* The same, with a loop of its own for each operation. */
static int64_t short_pass(const sink *out, int64_t row, int32_t operation, const short_scaling *s, const lc_view *left,
                          const lc_view *right) {
  if (operation == LC_MULTIPLY) return short_rows(out, row, LC_MULTIPLY, s, left, right);
  return operation == LC_ADD ? short_rows(out, row, LC_ADD, s, left, right)
                             : short_rows(out, row, LC_SUBTRACT, s, left, right);
}

static bool is_decimal(const lc_column *column) {
  return column->type == LC_TYPE_DECIMAL128 || column->type == LC_TYPE_DECIMAL256;
}

lc_code lc_decimal_arithmetic(const struct ArrowArray *batch, const lc_column *columns, int32_t operation,
                              int32_t rounding, int32_t precision, int32_t scale, struct ArrowArray *out,
                              int32_t *codes, lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, 2, error);
  if (code != LC_OK) return code;
  if (!is_decimal(&columns[0]) || !is_decimal(&columns[1]) || operation < LC_ADD || operation > LC_DIVIDE)
    return lc_fail(error, LC_INVALID, -1, -1, "expected two decimal columns and operation 0..3, found types %d and %d, "
                   "operation %d", columns[0].type, columns[1].type, operation);
  sink s;
  code = sink_new(&s, rounding, precision, scale, batch->length, codes, out, error);
  if (code != LC_OK) return code;
  scaling powers;
  scaling_make(&powers, operation, columns[0].scale, columns[1].scale, scale);
  short_scaling narrow = short_scaling_make(columns, operation, &s, scale, precision);
  lc_view left = lc_view_of(batch, columns, 0), right = lc_view_of(batch, columns, 1);
  for (int64_t row = 0; row < batch->length; row++) {
    if (narrow.fits) row = short_pass(&s, row, operation, &narrow, &left, &right);
    if (row == batch->length) break;
    if (!lc_view_valid(&left, row) || !lc_view_valid(&right, row)) {
      put_nothing(&s, row, 0);
      continue;
    }
    lc_big a, b;
    bool a_negative = load(left.values + left.width * row, left.width, &a);
    bool b_negative = load(right.values + right.width * row, right.width, &b);
    compute(&s, row, operation, &powers, &a, a_negative, &b, b_negative);
  }
  lc_batch_finish(out, batch->length);
  return LC_OK;
}

static lc_code check_factors(const lc_view *x, const lc_view *chosen, const uint8_t *factors, int64_t factor_count,
                             lc_error *error) {
  for (int64_t row = 0; row < x->rows; row++)
    if (lc_view_valid(chosen, row) && lc_load_i32(chosen->values + 4 * row) >= factor_count)
      return lc_fail(error, LC_INVALID, row, -1, "expected a factor below %lld, found %d", (long long)factor_count,
                     lc_load_i32(chosen->values + 4 * row));
  for (int64_t k = 0; k < factor_count; k++) {
    lc_big divisor;
    load(factors + 96 * k + 64, 32, &divisor);
    if (divisor.used == 0) return lc_fail(error, LC_INVALID, -1, -1, "factor %lld divides by zero", (long long)k);
  }
  return LC_OK;
}

lc_code lc_decimal_affine(const struct ArrowArray *batch, const lc_column *columns, const uint8_t *factors,
                          int64_t factor_count, int32_t rounding, int32_t precision, int32_t scale,
                          struct ArrowArray *out, int32_t *codes, lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, 2, error);
  if (code != LC_OK) return code;
  if (!is_decimal(&columns[0]) || columns[1].type != LC_TYPE_INT32)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a decimal and an int32 column, found types %d and %d",
                   columns[0].type, columns[1].type);
  lc_view x = lc_view_of(batch, columns, 0), chosen = lc_view_of(batch, columns, 1);
  code = check_factors(&x, &chosen, factors, factor_count, error);
  sink s;
  if (code == LC_OK) code = sink_new(&s, rounding, precision, scale, batch->length, codes, out, error);
  if (code != LC_OK) return code;
  for (int64_t row = 0; row < batch->length; row++) {
    int32_t k = lc_view_valid(&chosen, row) ? lc_load_i32(chosen.values + 4 * row) : -1;
    if (!lc_view_valid(&x, row) || k < 0) {
      put_nothing(&s, row, lc_view_valid(&x, row) ? LC_TRANSFORM_MISSING : 0);
      continue;
    }
    lc_big value, a, b, c, product, sum;
    bool negative = load(x.values + x.width * row, x.width, &value);
    negative ^= load(factors + 96 * (int64_t)k, 32, &a);
    bool b_negative = load(factors + 96 * (int64_t)k + 32, 32, &b);
    bool c_negative = load(factors + 96 * (int64_t)k + 64, 32, &c);
    lc_big_multiply(&value, &a, &product);
    negative = add_signed(&product, negative, &b, b_negative, &sum);
    put_quotient(&s, row, &sum, &c, negative != c_negative);
  }
  lc_batch_finish(out, batch->length);
  return LC_OK;
}

void lc_asof_search(const int64_t *keys, int64_t key_count, const int64_t *probes, int64_t probe_count,
                    int32_t *found) {
  for (int64_t row = 0; row < probe_count; row++) {
    int64_t low = 0, high = key_count; /* the first key above the probe lies in low..high */
    while (low < high) {
      int64_t middle = low + (high - low) / 2;
      if (keys[middle] <= probes[row]) low = middle + 1;
      else high = middle;
    }
    bool same = low > 0 && (uint64_t)keys[low - 1] >> 32 == (uint64_t)probes[row] >> 32;
    found[row] = same ? (int32_t)(low - 1) : -1;
  }
}

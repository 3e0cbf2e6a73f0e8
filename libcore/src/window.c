/* Sums by group: one loop a sum, the column's type outside the loop.  Integers wrap: the caller's width has room. */
#include "libcore/window.h"

#include <math.h>

#include "view.h"

typedef unsigned __int128 u128;

typedef struct job {
  const struct ArrowArray *batch;
  const lc_column *columns;
  const int32_t *groups;
  int64_t rows, column_count, group_count;
  lc_view weight; /* values NULL: each row counts once */
} job;

static inline int64_t weight_of(const job *j, int64_t row) {
  if (j->weight.values == NULL) return 1;
  return j->weight.width == 1 ? (int8_t)j->weight.values[row] : lc_load_i64(j->weight.values + 8 * row);
}

static inline int64_t load_int(const lc_view *view, int64_t row) {
  switch (view->width) {
    case 1: return (int8_t)view->values[row];
    case 2: return lc_load_i16(view->values + 2 * row);
    case 4: return lc_load_i32(view->values + 4 * row);
    default: return lc_load_i64(view->values + 8 * row);
  }
}

/* An integer or decimal in 256 bits, two's complement. */
static inline void load_wide(const lc_view *view, int64_t row, uint64_t limbs[4]) {
  if (view->type == LC_TYPE_DECIMAL256) {
    memcpy(limbs, view->values + 32 * row, 32);
    return;
  }
  if (view->type == LC_TYPE_DECIMAL128)
    memcpy(limbs, view->values + 16 * row, 16);
  else {
    limbs[0] = (uint64_t)load_int(view, row);
    limbs[1] = (uint64_t)(load_int(view, row) >> 63);
  }
  limbs[2] = limbs[3] = (uint64_t)((int64_t)limbs[1] >> 63);
}

static inline u128 load_128(const lc_view *view, int64_t row) {
  if (view->type != LC_TYPE_DECIMAL128) return (u128)(__int128)load_int(view, row);
  uint64_t limbs[2];
  memcpy(limbs, view->values + 16 * row, 16);
  return (u128)limbs[1] << 64 | limbs[0];
}

static void sum_64(const job *j, const lc_view *view, uint64_t *sums) {
  for (int64_t row = 0; row < j->rows; row++)
    if (lc_view_valid(view, row)) sums[j->groups[row]] += (uint64_t)weight_of(j, row) * (uint64_t)load_int(view, row);
}

static void sum_128(const job *j, const lc_view *view, uint64_t *sums) {
  for (int64_t row = 0; row < j->rows; row++) {
    if (!lc_view_valid(view, row)) continue;
    uint64_t *at = sums + 2 * (int64_t)j->groups[row];
    u128 total = ((u128)at[1] << 64 | at[0]) + (u128)(__int128)weight_of(j, row) * load_128(view, row);
    at[0] = (uint64_t)total;
    at[1] = (uint64_t)(total >> 64);
  }
}

static void sum_256(const job *j, const lc_view *view, uint64_t *sums) {
  for (int64_t row = 0; row < j->rows; row++) {
    if (!lc_view_valid(view, row)) continue;
    uint64_t limbs[4], *at = sums + 4 * (int64_t)j->groups[row];
    load_wide(view, row, limbs);
    int64_t weight = weight_of(j, row);
    uint64_t factor = weight < 0 ? 0 - (uint64_t)weight : (uint64_t)weight;
    u128 product = 0, carry = weight < 0; /* minus x is the complement of x plus 1 */
    for (int i = 0; i < 4; i++) {
      product += (u128)limbs[i] * factor;
      uint64_t term = weight < 0 ? ~(uint64_t)product : (uint64_t)product;
      carry += (u128)at[i] + term;
      at[i] = (uint64_t)carry;
      product >>= 64;
      carry >>= 64;
    }
  }
}

static void count_valid(const job *j, const lc_view *view, uint64_t *counts) {
  for (int64_t row = 0; row < j->rows; row++)
    if (view == NULL || lc_view_valid(view, row)) counts[j->groups[row]] += (uint64_t)weight_of(j, row);
}

static inline double load_float(const lc_view *view, int64_t row) {
  return view->type == LC_TYPE_FLOAT32 ? lc_load_f32(view->values + 4 * row) : lc_load_f64(view->values + 8 * row);
}

static void sum_floats(const job *j, const lc_view *view, const lc_view *rest, double *high, double *low) {
  for (int64_t row = 0; row < j->rows; row++) {
    double value = lc_view_valid(view, row) ? load_float(view, row) : NAN;
    if (!isfinite(value)) continue;
    int32_t group = j->groups[row];
    double weight = (double)weight_of(j, row), term = weight * value, total = high[group] + term;
    double part = total - high[group]; /* Knuth's two-sum: what rounding took from total */
    double more = rest == NULL ? 0.0 : load_float(rest, row);
    low[group] += (high[group] - (total - part)) + (term - part) + weight * more;
    high[group] = total;
  }
}

static void count_special(const job *j, const lc_view *view, int32_t kind, uint64_t *counts) {
  for (int64_t row = 0; row < j->rows; row++) {
    if (!lc_view_valid(view, row)) continue;
    double value = load_float(view, row);
    bool infinite = isinf(value) && (value > 0) == (kind == LC_WINDOW_PLUS_INFINITY);
    if (kind == LC_WINDOW_NAN ? isnan(value) : infinite) counts[j->groups[row]] += (uint64_t)weight_of(j, row);
  }
}

static void greatest(const job *j, const lc_view *view, struct ArrowArray *out, int64_t c) {
  int64_t *values = lc_child_values(out, c);
  uint8_t *validity = lc_child_validity(out, c);
  memset(validity, 0, (size_t)LC_BITMAP_BYTES(j->group_count));
  for (int64_t row = 0; row < j->rows; row++) {
    if (!lc_view_valid(view, row)) continue;
    int32_t group = j->groups[row];
    int64_t value = lc_load_i64(view->values + 8 * row);
    if (!lc_bit_get(validity, group) || value > values[group]) values[group] = value;
    lc_bit_set(validity, group);
  }
}

static bool is_int(int32_t type) {
  return type == LC_TYPE_INT8 || type == LC_TYPE_INT16 || type == LC_TYPE_INT32 || type == LC_TYPE_INT64;
}

static bool is_float(int32_t type) { return type == LC_TYPE_FLOAT32 || type == LC_TYPE_FLOAT64; }

/* Whether a sum can take its column and give its output; `out` has as many layouts as the kind needs. */
static bool fits(const job *j, const lc_window_sum *sum, const lc_column *out) {
  if (sum->kind == LC_WINDOW_WEIGHT) return out->type == LC_TYPE_INT64;
  if (sum->column < 0 || sum->column >= j->column_count) return false;
  int32_t type = j->columns[sum->column].type, to = out->type;
  switch (sum->kind) {
    case LC_WINDOW_VALID: return to == LC_TYPE_INT64;
    case LC_WINDOW_SUM:
      if (to == LC_TYPE_INT64) return is_int(type);
      if (to == LC_TYPE_DECIMAL128) return is_int(type) || type == LC_TYPE_DECIMAL128;
      return to == LC_TYPE_DECIMAL256 && (is_int(type) || type == LC_TYPE_DECIMAL128 || type == LC_TYPE_DECIMAL256);
    case LC_WINDOW_FLOAT:
      if (sum->low >= j->column_count || (sum->low >= 0 && j->columns[sum->low].type != LC_TYPE_FLOAT64)) return false;
      return is_float(type) && to == LC_TYPE_FLOAT64 && out[1].type == LC_TYPE_FLOAT64;
    case LC_WINDOW_NAN:
    case LC_WINDOW_PLUS_INFINITY:
    case LC_WINDOW_MINUS_INFINITY: return is_float(type) && to == LC_TYPE_INT64;
    case LC_WINDOW_MAX: return (type == LC_TYPE_INT64 || type == LC_TYPE_TIMESTAMP) && to == type;
    default: return false;
  }
}

static void run(const job *j, const lc_window_sum *sum, struct ArrowArray *out, const lc_column *out_columns,
                int64_t c) {
  void *values = lc_child_values(out, c);
  if (sum->kind == LC_WINDOW_WEIGHT) {
    count_valid(j, NULL, values);
    return;
  }
  lc_view view = lc_view_of(j->batch, j->columns, sum->column);
  switch (sum->kind) {
    case LC_WINDOW_VALID: count_valid(j, &view, values); break;
    case LC_WINDOW_SUM:
      if (out_columns[c].type == LC_TYPE_INT64)
        sum_64(j, &view, values);
      else if (out_columns[c].type == LC_TYPE_DECIMAL128)
        sum_128(j, &view, values);
      else
        sum_256(j, &view, values);
      break;
    case LC_WINDOW_FLOAT: {
      lc_view rest = sum->low < 0 ? (lc_view){0} : lc_view_of(j->batch, j->columns, sum->low);
      sum_floats(j, &view, sum->low < 0 ? NULL : &rest, values, lc_child_values(out, c + 1));
      break;
    }
    case LC_WINDOW_MAX: greatest(j, &view, out, c); break;
    default: count_special(j, &view, sum->kind, values); break;
  }
}

static lc_code check(const job *j, int32_t weight, const lc_window_sum *sums, int64_t sum_count,
                     const lc_column *out_columns, int64_t out_count, lc_error *error) {
  bool weighted = weight >= 0 && weight < j->column_count;
  int32_t type = weighted ? j->columns[weight].type : 0;
  if (weight >= 0 && (!weighted || (type != LC_TYPE_INT8 && type != LC_TYPE_INT64)))
    return lc_fail(error, LC_INVALID, -1, -1, "weight: expected a column int8 or int64, found column %d", weight);
  int64_t c = 0;
  for (int64_t s = 0; s < sum_count; s++) {
    int64_t width = sums[s].kind == LC_WINDOW_FLOAT ? 2 : 1;
    if (c + width > out_count || !fits(j, &sums[s], &out_columns[c]))
      return lc_fail(error, LC_INVALID, -1, -1, "sum %lld: expected a column and an output that fit kind %d",
                     (long long)s, sums[s].kind);
    c += width;
  }
  if (c != out_count)
    return lc_fail(error, LC_INVALID, -1, -1, "expected %lld output columns, found %lld", (long long)c,
                   (long long)out_count);
  for (int64_t row = 0; row < j->rows; row++)
    if (j->groups[row] < 0 || j->groups[row] >= j->group_count)
      return lc_fail(error, LC_INVALID, row, -1, "row %lld: expected a group of 0 to %lld, found %d", (long long)row,
                     (long long)j->group_count - 1, j->groups[row]);
  return LC_OK;
}

lc_code lc_window_sums(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                       const int32_t *groups, int64_t group_count, int32_t weight, const lc_window_sum *sums,
                       int64_t sum_count, const lc_column *out_columns, int64_t out_count, struct ArrowArray *out,
                       lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, column_count, error);
  if (code != LC_OK) return code;
  job j = {.batch = batch,
           .columns = columns,
           .groups = groups,
           .rows = batch->length,
           .column_count = column_count,
           .group_count = group_count};
  code = check(&j, weight, sums, sum_count, out_columns, out_count, error);
  if (code != LC_OK) return code;
  struct ArrowArray made;
  code = lc_batch_new(&made, out_columns, out_count, group_count, error);
  if (code != LC_OK) return code;
  if (j.rows > 0) { /* a column without rows has perhaps no buffers */
    if (weight >= 0) j.weight = lc_view_of(batch, columns, weight);
    int64_t c = 0;
    for (int64_t s = 0; s < sum_count; c += sums[s].kind == LC_WINDOW_FLOAT ? 2 : 1, s++)
      run(&j, &sums[s], &made, out_columns, c);
  } else {
    for (int64_t s = 0, c = 0; s < sum_count; c += sums[s].kind == LC_WINDOW_FLOAT ? 2 : 1, s++)
      if (sums[s].kind == LC_WINDOW_MAX)
        memset(lc_child_validity(&made, c), 0, (size_t)LC_BITMAP_BYTES(group_count));
  }
  lc_batch_finish(&made, group_count);
  *out = made;
  return LC_OK;
}

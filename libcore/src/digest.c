/* Digest rows: each row's canonical bytes into one buffer that is used again, and two words of XXH64 over it. */
#include "libcore/digest.h"

#include "libcore/hash.h"
#include "view.h"

#define SECOND_LANE 0x9E3779B97F4A7C15ULL
#define FIXED_MAX 40 /* bytes of any value that is no text and no binary, its tag included */

enum tag { NOTHING, UNSET, FALSE_TAG, TRUE_TAG, NUMBER, FLOATING, TEXT, BINARY, DATE, TIME, WALL_CLOCK, INSTANT };

typedef struct source {
  lc_view view;
  int64_t index;
  int32_t scale, unit;
  bool zoned;
} source;

static inline void put_u32(uint8_t *at, uint32_t value) {
  for (int i = 0; i < 4; i++)
    at[i] = (uint8_t)(value >> (8 * i));
}
static inline void put_u64(uint8_t *at, uint64_t value) {
  for (int i = 0; i < 8; i++)
    at[i] = (uint8_t)(value >> (8 * i));
}

static size_t put_number(uint8_t *at, const uint64_t limbs[4], bool negative, int32_t scale) {
  int used = 4;
  while (used > 0 && limbs[used - 1] == 0)
    used--;
  at[0] = NUMBER;
  at[1] = (uint8_t)((negative && used > 0 ? 128 : 0) + used);
  at[2] = (uint8_t)(used > 0 ? scale : 0);
  for (int i = 0; i < used; i++)
    put_u64(at + 3 + 8 * i, limbs[i]);
  return 3 + 8 * (size_t)used;
}

static size_t put_integer(uint8_t *at, int64_t value) {
  uint64_t limbs[4] = {value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 0, 0, 0};
  return put_number(at, limbs, value < 0, 0);
}

static uint64_t divided(const uint64_t from[4], uint64_t to[4]) {
  unsigned __int128 rest = 0;
  for (int i = 3; i >= 0; i--) {
    rest = rest << 64 | from[i];
    to[i] = (uint64_t)(rest / 10);
    rest %= 10;
  }
  return (uint64_t)rest;
}

static size_t put_decimal(uint8_t *at, const uint8_t *value, int32_t width, int32_t scale) {
  uint64_t limbs[4], less[4];
  bool negative = lc_load_decimal(value, width, limbs);
  if ((limbs[1] | limbs[2] | limbs[3]) == 0) {
    for (; scale > 0 && limbs[0] % 10 == 0 && limbs[0] != 0; scale--)
      limbs[0] /= 10;
  } else {
    for (; scale > 0 && divided(limbs, less) == 0; scale--)
      memcpy(limbs, less, sizeof limbs);
  }
  return put_number(at, limbs, negative, scale);
}

static size_t put_float(uint8_t *at, double value) {
  uint64_t bits = 0x7FF8000000000000ULL;
  if (value == 0) bits = 0;
  else if (value == value) memcpy(&bits, &value, sizeof bits);
  at[0] = FLOATING;
  put_u64(at + 1, bits);
  return 9;
}

static size_t put_timestamp(uint8_t *at, int64_t value, int32_t units, bool zoned) {
  int64_t seconds = value / units, rest = value % units;
  if (rest < 0) {
    rest += units;
    seconds--;
  }
  at[0] = zoned ? INSTANT : WALL_CLOCK;
  put_u64(at + 1, (uint64_t)seconds);
  put_u32(at + 9, (uint32_t)(rest * (1000000000 / units)));
  return 13;
}

/* A value of fixed width; at most FIXED_MAX bytes. */
static size_t put_fixed(uint8_t *at, const source *s, int64_t row) {
  const lc_view *view = &s->view;
  if (view->type == LC_TYPE_BOOL) {
    at[0] = lc_view_bool(view, row) ? TRUE_TAG : FALSE_TAG;
    return 1;
  }
  const uint8_t *value = view->values + view->width * row;
  switch (view->type) {
    case LC_TYPE_INT8: return put_integer(at, (int8_t)*value);
    case LC_TYPE_INT16: return put_integer(at, lc_load_i16(value));
    case LC_TYPE_INT32: return put_integer(at, lc_load_i32(value));
    case LC_TYPE_INT64: return put_integer(at, lc_load_i64(value));
    case LC_TYPE_FLOAT32: return put_float(at, (double)lc_load_f32(value));
    case LC_TYPE_FLOAT64: return put_float(at, lc_load_f64(value));
    case LC_TYPE_TIMESTAMP: return put_timestamp(at, lc_load_i64(value), s->unit, s->zoned);
    case LC_TYPE_DATE32:
      at[0] = DATE;
      put_u32(at + 1, (uint32_t)lc_load_i32(value));
      return 5;
    case LC_TYPE_TIME64: /* outside of a day it wraps around, as the reference does */
      at[0] = TIME;
      put_u64(at + 1, lc_load_u64(value) * (uint64_t)s->unit);
      return 9;
    default: return put_decimal(at, value, view->width, s->scale);
  }
}

static bool put(lc_buffer *bytes, const source *s, int64_t row, const uint8_t *unset) {
  if (!lc_buffer_reserve(bytes, FIXED_MAX)) return false;
  uint8_t *at = bytes->data + bytes->size;
  bool is_unset = unset != NULL && lc_bit_get(unset, s->index);
  if (is_unset || !lc_view_valid(&s->view, row)) {
    *at = is_unset ? UNSET : NOTHING;
    bytes->size++;
    return true;
  }
  const lc_view *view = &s->view;
  if (view->type != LC_TYPE_UTF8 && view->type != LC_TYPE_BINARY && view->type != LC_TYPE_FIXED) {
    bytes->size += put_fixed(at, s, row);
    return true;
  }
  bool fixed = view->type == LC_TYPE_FIXED;
  size_t size = fixed ? (size_t)view->width : (size_t)lc_view_size(view, row);
  at[0] = view->type == LC_TYPE_UTF8 ? TEXT : BINARY;
  put_u32(at + 1, (uint32_t)size);
  bytes->size += 5;
  return lc_buffer_append(bytes, fixed ? view->values + (size_t)view->width * (size_t)row : lc_view_bytes(view, row),
                          size);
}

static lc_code check(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                     const lc_digest_column *wanted, int64_t wanted_count, int64_t unset, lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, column_count, error);
  if (code != LC_OK) return code;
  if (wanted_count < 0 || wanted_count > column_count || unset < -1 || unset >= column_count)
    return lc_fail(error, LC_INVALID, -1, -1, "expected at most %lld columns, found %lld, __unset at %lld",
                   (long long)column_count, (long long)wanted_count, (long long)unset);
  int64_t bits = unset < 0 ? INT64_MAX : 8 * (int64_t)columns[unset].width;
  if (unset >= 0 && columns[unset].type != LC_TYPE_FIXED)
    return lc_fail(error, LC_INVALID, -1, -1, "expected __unset of fixed size, found type %d", columns[unset].type);
  for (int64_t k = 0; k < wanted_count; k++) {
    int32_t index = wanted[k].index, unit = wanted[k].unit;
    if (index < 0 || index >= column_count || index >= bits)
      return lc_fail(error, LC_INVALID, -1, -1, "expected a column index below %lld, found %d",
                     (long long)(bits < column_count ? bits : column_count), index);
    int32_t type = columns[index].type;
    if ((type == LC_TYPE_TIME64 && unit != 1 && unit != 1000) ||
        (type == LC_TYPE_TIMESTAMP && unit != 1000000 && unit != 1000000000))
      return lc_fail(error, LC_INVALID, -1, -1, "column %d: found unit %d", index, unit);
  }
  return LC_OK;
}

static lc_code digest_all(const source *sources, int64_t count, const lc_view *unset, int64_t rows, uint64_t seed,
                          uint8_t *digests, uint64_t sum[2], lc_error *error) {
  lc_buffer bytes = {0};
  for (int64_t row = 0; row < rows; row++) {
    bytes.size = 0;
    const uint8_t *bits = unset->values == NULL ? NULL : unset->values + unset->width * row;
    for (int64_t k = 0; k < count; k++) {
      if (put(&bytes, &sources[k], row, bits)) continue;
      lc_code code = bytes.size > INT32_MAX / 2 ? LC_CAPACITY : LC_NO_MEMORY;
      lc_buffer_free(&bytes);
      return lc_fail(error, code, row, -1, "no room for the bytes of row %lld", (long long)row);
    }
    uint64_t low = lc_xxh64(bytes.data, (int64_t)bytes.size, seed);
    uint64_t high = lc_xxh64(bytes.data, (int64_t)bytes.size, seed ^ SECOND_LANE);
    if (digests != NULL) {
      put_u64(digests + 16 * row, low);
      put_u64(digests + 16 * row + 8, high);
    }
    sum[0] += low;
    sum[1] += high + (sum[0] < low);
  }
  lc_buffer_free(&bytes);
  return LC_OK;
}

lc_code lc_digest_rows(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                       const lc_digest_column *wanted, int64_t wanted_count, int64_t unset, uint64_t seed,
                       uint8_t *digests, uint64_t sum[2], lc_error *error) {
  sum[0] = sum[1] = 0;
  lc_code code = check(batch, columns, column_count, wanted, wanted_count, unset, error);
  if (code != LC_OK) return code;
  source *sources = lc_calloc((size_t)wanted_count, sizeof *sources);
  if (sources == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)wanted_count);
  for (int64_t k = 0; k < wanted_count; k++)
    sources[k] = (source){.view = lc_view_of(batch, columns, wanted[k].index),
                          .index = wanted[k].index,
                          .scale = columns[wanted[k].index].scale,
                          .unit = wanted[k].unit,
                          .zoned = wanted[k].zoned != 0};
  lc_view bits = {0};
  if (unset >= 0) bits = lc_view_of(batch, columns, unset);
  code = digest_all(sources, wanted_count, &bits, batch->length, seed, digests, sum, error);
  lc_free(sources);
  return code;
}

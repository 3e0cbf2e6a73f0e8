/* Hash rows column by column, so that each loop is over one type. */
#include "libcore/hash.h"

#include "view.h"

#define PRIME_1 0x9E3779B185EBCA87ULL
#define PRIME_2 0xC2B2AE3D27D4EB4FULL
#define PRIME_3 0x165667B19E3779F9ULL
#define PRIME_4 0x85EBCA77C2B2AE63ULL
#define PRIME_5 0x27D4EB2F165667C5ULL
#define ROW_START 0x9E3779B97F4A7C15ULL
#define NULL_WORD 0x6E756C6C6E756C6CULL
#define NAN_WORD 0x7FF8000000000000ULL

static inline uint64_t rotate(uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }
static inline uint64_t xxh_round(uint64_t lane, uint64_t input) { return rotate(lane + input * PRIME_2, 31) * PRIME_1; }
static inline uint64_t xxh_merge(uint64_t hash, uint64_t lane) {
  return (hash ^ xxh_round(0, lane)) * PRIME_1 + PRIME_4;
}

static inline uint64_t xxh64(const uint8_t *at, size_t size, uint64_t seed) {
  const uint8_t *end = at + size;
  uint64_t hash = seed + PRIME_5;
  if (size >= 32) {
    uint64_t a = seed + PRIME_1 + PRIME_2, b = seed + PRIME_2, c = seed, d = seed - PRIME_1;
    for (; end - at >= 32; at += 32) {
      a = xxh_round(a, lc_load_u64(at));
      b = xxh_round(b, lc_load_u64(at + 8));
      c = xxh_round(c, lc_load_u64(at + 16));
      d = xxh_round(d, lc_load_u64(at + 24));
    }
    hash = rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18);
    hash = xxh_merge(xxh_merge(xxh_merge(xxh_merge(hash, a), b), c), d);
  }
  hash += size;
  for (; end - at >= 8; at += 8)
    hash = rotate(hash ^ xxh_round(0, lc_load_u64(at)), 27) * PRIME_1 + PRIME_4;
  if (end - at >= 4) {
    hash = rotate(hash ^ lc_load_u32(at) * PRIME_1, 23) * PRIME_2 + PRIME_3;
    at += 4;
  }
  for (; at < end; at++)
    hash = rotate(hash ^ *at * PRIME_5, 11) * PRIME_1;
  hash = (hash ^ (hash >> 33)) * PRIME_2;
  hash = (hash ^ (hash >> 29)) * PRIME_3;
  return hash ^ (hash >> 32);
}

uint64_t lc_xxh64(const void *data, int64_t size, uint64_t seed) {
  return xxh64(size > 0 ? data : (const void *)"", size > 0 ? (size_t)size : 0, seed);
}

static inline uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDULL;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53ULL;
  return x ^ (x >> 33);
}

static inline uint64_t float_word(double value) {
  uint64_t bits;
  if (value != value) return NAN_WORD;
  if (value == 0) return 0;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* Divide by 10 in place; the remainder. */
static inline uint64_t divide_by_ten(uint64_t limbs[4], int used) {
  unsigned __int128 rest = 0;
  for (int i = used - 1; i >= 0; i--) {
    rest = rest << 64 | limbs[i];
    limbs[i] = (uint64_t)(rest / 10);
    rest %= 10;
  }
  return (uint64_t)rest;
}

static uint64_t decimal_word(const uint8_t *at, int32_t width, int32_t scale) {
  uint64_t limbs[4];
  bool negative = lc_load_decimal(at, width, limbs);
  int used = limbs[3] ? 4 : limbs[2] ? 3 : limbs[1] ? 2 : 1;
  while (used > 1) {
    uint64_t tried[4];
    memcpy(tried, limbs, sizeof tried);
    if (divide_by_ten(tried, used) != 0) break;
    memcpy(limbs, tried, sizeof limbs);
    scale--;
    if (limbs[used - 1] == 0) used--;
  }
  if (used == 1) {
    if (limbs[0] == 0) scale = 0;
    for (; limbs[0] != 0 && limbs[0] % 10 == 0; scale--)
      limbs[0] /= 10;
  }
  uint64_t word = mix((uint64_t)(scale + 128) * 2 + negative);
  for (int i = 0; i < used; i++)
    word = mix(word ^ limbs[i]);
  return word;
}

/* One loop over the rows; `word` is an expression over `row`.  The NULL test leaves the loop where there is none. */
#define HASH_LOOP(word)                                                                             \
  do {                                                                                              \
    if (view->validity == NULL)                                                                     \
      for (int64_t row = 0; row < rows; row++)                                                      \
        hashes[row] = mix(hashes[row] ^ (word));                                                    \
    else                                                                                            \
      for (int64_t row = 0; row < rows; row++)                                                      \
        hashes[row] = mix(hashes[row] ^ (lc_view_valid(view, row) ? (uint64_t)(word) : NULL_WORD)); \
  } while (0)

static void hash_column(const lc_view *view, int32_t scale, int64_t rows, uint64_t *hashes) {
  const uint8_t *values = view->values;
  switch (view->type) {
    case LC_TYPE_BOOL: HASH_LOOP((uint64_t)lc_view_bool(view, row)); break;
    case LC_TYPE_INT8: HASH_LOOP((uint64_t)(int64_t)(int8_t)values[row]); break;
    case LC_TYPE_INT16: HASH_LOOP((uint64_t)(int64_t)lc_load_i16(values + 2 * row)); break;
    case LC_TYPE_INT32:
    case LC_TYPE_DATE32: HASH_LOOP((uint64_t)(int64_t)lc_load_i32(values + 4 * row)); break;
    case LC_TYPE_INT64:
    case LC_TYPE_TIME64:
    case LC_TYPE_TIMESTAMP: HASH_LOOP(lc_load_u64(values + 8 * row)); break;
    case LC_TYPE_FLOAT32: HASH_LOOP(float_word((double)lc_load_f32(values + 4 * row))); break;
    case LC_TYPE_FLOAT64: HASH_LOOP(float_word(lc_load_f64(values + 8 * row))); break;
    case LC_TYPE_DECIMAL128:
    case LC_TYPE_DECIMAL256: HASH_LOOP(decimal_word(values + view->width * row, view->width, scale)); break;
    case LC_TYPE_UTF8:
    case LC_TYPE_BINARY: HASH_LOOP(xxh64(lc_view_bytes(view, row), (size_t)lc_view_size(view, row), 0)); break;
    case LC_TYPE_FIXED:
      HASH_LOOP(
          xxh64(view->width > 0 ? values + (int64_t)view->width * row : (const uint8_t *)"", (size_t)view->width, 0));
      break;
    default: break; /* lc_check_batch let only known types in */
  }
}

lc_code lc_hash_rows(const struct ArrowArray *batch, const lc_column *columns, int64_t column_count,
                     const int32_t *indexes, int64_t index_count, uint64_t *hashes, lc_error *error) {
  lc_code code = lc_check_batch(batch, columns, column_count, error);
  if (code != LC_OK) return code;
  for (int64_t k = 0; k < index_count; k++)
    if (indexes[k] < 0 || indexes[k] >= column_count)
      return lc_fail(error, LC_INVALID, -1, -1, "expected a column index below %lld, found %d", (long long)column_count,
                     indexes[k]);
  for (int64_t row = 0; row < batch->length; row++)
    hashes[row] = ROW_START;
  for (int64_t k = 0; k < index_count; k++) {
    lc_view view = lc_view_of(batch, columns, indexes[k]);
    hash_column(&view, columns[indexes[k]].scale, batch->length, hashes);
  }
  return LC_OK;
}

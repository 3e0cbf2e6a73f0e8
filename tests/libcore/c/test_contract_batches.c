/* What kernels over batches refuse: a batch that does not fit its layout, columns that are not there, arguments out of
 * their bounds; each with a sentence, and nothing written. */
#include "libcore/compact.h"
#include "libcore/decimal.h"
#include "libcore/digest.h"
#include "libcore/hash.h"
#include "libcore/join.h"
#include "libcore/json.h"
#include "libcore/slots.h"
#include "libcore/table.h"
#include "libcore/window.h"
#include "refused.h"

static const int64_t numbers[4] = {1, 2, 3, 4};
static const int32_t offsets[4] = {0, 0, 0, 0};
static const int32_t first[1] = {0}, below[1] = {-1}, above[1] = {2};

/* Two columns, int64 and text, three rows. */
static check_batch two_columns(void) {
  static check_batch in;
  check_batch_start(&in, 3);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_UTF8}, NULL, offsets, "");
  return in;
}
#define TWO_COLUMNS(name)          \
  check_batch name = two_columns(); \
  for (int i = 0; i < 2; i++) {     \
    name.pointers[i] = &name.children[i]; \
    name.children[i].buffers = name.buffers[i]; \
  }                                 \
  name.array.children = name.pointers; \
  name.array.buffers = name.none

static void test_layout(void) {
  TWO_COLUMNS(in);
  uint64_t out[3];
#define HASH() lc_hash_rows(&in.array, in.columns, 2, first, 1, out, &refused_error)
  CHECK_EQUAL(LC_OK, HASH());
  REFUSED(lc_hash_rows(NULL, in.columns, 2, first, 1, out, &refused_error));
  REFUSED(lc_hash_rows(&in.array, NULL, 2, first, 1, out, &refused_error));
  REFUSED(lc_hash_rows(&in.array, in.columns, 1, first, 1, out, &refused_error));
  REFUSED(lc_hash_rows(&in.array, in.columns, 2, below, 1, out, &refused_error));
  REFUSED(lc_hash_rows(&in.array, in.columns, 2, above, 1, out, &refused_error));
  REFUSED_WITH(in.array.null_count, 1, HASH());
  REFUSED_WITH(in.children[0].length, 2, HASH());
  REFUSED_WITH(in.children[1].n_buffers, 2, HASH());
  REFUSED_WITH(in.buffers[0][1], NULL, HASH());
  lc_column *layout = &in.columns[0];
  REFUSED_WITH(layout->type, 0, HASH());
  REFUSED_WITH(layout->type, LC_TYPE_FIXED + 1, HASH());
  layout->type = LC_TYPE_FIXED;
  REFUSED_WITH(layout->width, -1, HASH());
  REFUSED_WITH(layout->width, (1 << 20) + 1, HASH());
  for (layout->type = LC_TYPE_DECIMAL128; layout->type <= LC_TYPE_DECIMAL256; layout->type++) {
    REFUSED_WITH(layout->precision, 0, HASH());
    REFUSED_WITH(layout->precision, layout->type == LC_TYPE_DECIMAL128 ? 39 : 77, HASH());
    layout->precision = 9;
    REFUSED_WITH(layout->scale, -1, HASH());
    REFUSED_WITH(layout->scale, 10, HASH());
  }
#undef HASH
}

static void test_rows(void) {
  TWO_COLUMNS(in);
  struct ArrowArray out, *many = calloc(LC_BUCKETS_MAX, sizeof *many);
  if (many == NULL) abort();
  uint64_t hashes[3] = {0};
  uint8_t buckets[1] = {0};
  REFUSED(lc_scatter(&in.array, in.columns, 2, hashes, 0, buckets, many, &refused_error));
  REFUSED(lc_scatter(&in.array, in.columns, 2, hashes, 65537, buckets, many, &refused_error));
  REFUSED(lc_scatter(NULL, in.columns, 2, hashes, 1, buckets, many, &refused_error));
  static const int32_t low[2] = {0, -1}, high[2] = {2, 3};
  REFUSED(lc_take(&in.array, in.columns, 2, low, 2, &out, &refused_error));
  CHECK_EQUAL(1, refused_error.row);
  REFUSED(lc_take(&in.array, in.columns, 2, high, 2, &out, &refused_error));
  REFUSED(lc_take(NULL, in.columns, 2, low, 1, &out, &refused_error));
  free(many);
  int32_t codes[3];
  int64_t positions[3];
  REFUSED(lc_json_validate(&in.array, 0, codes, positions, &refused_error)); /* two columns */
  REFUSED(lc_json_validate(&in.array, 9, codes, positions, &refused_error));
  lc_digest_column wanted = {.index = 0};
  uint64_t sum[2];
#define DIGEST(unset) lc_digest_rows(&in.array, in.columns, 2, &wanted, 1, unset, 0, NULL, sum, &refused_error)
  CHECK_EQUAL(LC_OK, DIGEST(-1));
  REFUSED(DIGEST(2));
  REFUSED(DIGEST(1)); /* of text, not of fixed size */
  REFUSED_WITH(wanted.index, -1, DIGEST(-1));
  REFUSED_WITH(wanted.index, 2, DIGEST(-1));
  in.columns[0].type = LC_TYPE_TIME64;
  REFUSED_WITH(wanted.unit, 7, DIGEST(-1));
  in.columns[0].type = LC_TYPE_TIMESTAMP;
  REFUSED_WITH(wanted.unit, 7, DIGEST(-1));
#undef DIGEST
}

static void test_decimals(void) {
  TWO_COLUMNS(in);
  struct ArrowArray out;
  int32_t codes[3];
  REFUSED(lc_decimal_read_text(&in.array, 9, 2, &out, codes, &refused_error)); /* two columns */
  REFUSED(lc_decimal_read_text(&in.array, 77, 2, &out, codes, &refused_error));
  REFUSED(lc_decimal_read_text(&in.array, 9, 10, &out, codes, &refused_error));
  REFUSED(lc_decimal_read_bytes(&in.array, 0, 0, 0, &out, codes, &refused_error));
  in.array.n_children = 1;
  REFUSED(lc_decimal_write_text(&in.array, in.columns, &out, &refused_error)); /* an integer */
  lc_column decimal = {.type = LC_TYPE_DECIMAL128, .precision = 39};
  REFUSED(lc_decimal_write_text(&in.array, &decimal, &out, &refused_error));
}

static void test_compact(void) {
  static const uint8_t positions[96], unset[3];
  static const int8_t ops[3] = {1, 1, 1};
  check_batch in;
  check_batch_start(&in, 3);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT8}, NULL, ops, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_FIXED, .width = 32}, NULL, positions, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_TIMESTAMP}, NULL, numbers, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_FIXED, .width = 1}, NULL, unset, NULL);
  struct ArrowArray out;
  lc_compact_result result;
#define COMPACT(table_columns, key) \
  lc_compact(&in.array, in.columns, 5, table_columns, key, 1, &out, &result, &refused_error)
  CHECK_EQUAL(LC_OK, COMPACT(1, first));
  REFUSED(COMPACT(-1, first));
  REFUSED(COMPACT(0, first));
  REFUSED(COMPACT(3, first));
  REFUSED(COMPACT(1, below));
  REFUSED(COMPACT(1, above));
  REFUSED_WITH(in.columns[1].type, LC_TYPE_BOOL, COMPACT(1, first));
  REFUSED_WITH(in.columns[2].type, LC_TYPE_INT64, COMPACT(1, first));
  REFUSED_WITH(in.columns[2].width, 31, COMPACT(1, first));
  REFUSED_WITH(in.columns[3].type, LC_TYPE_INT64, COMPACT(1, first));
  REFUSED_WITH(in.columns[4].type, LC_TYPE_BOOL, COMPACT(1, first));
  REFUSED_WITH(in.columns[4].width, 2, COMPACT(1, first));
  static const int8_t unknown[3] = {1, 9, 1};
  in.buffers[1][1] = unknown;
  CHECK_EQUAL(LC_DATA, COMPACT(1, first));
  CHECK_EQUAL(1, refused_error.row);
#undef COMPACT
}

static lc_code new_store(const lc_column *columns, int64_t count, const int32_t *key, int64_t keys,
                         const int32_t *index, int64_t indexes, const int32_t *slot_by, int64_t slot_bys,
                         int32_t slots, int64_t bytes_max) {
  lc_table *made = NULL;
  lc_code code = lc_table_new(columns, count, key, keys, index, indexes, slot_by, slot_bys, slots, bytes_max, &made,
                              &refused_error);
  if (code == LC_OK) lc_table_free(made);
  return code;
}

static void test_table(void) {
  lc_column columns[2] = {{.type = LC_TYPE_INT64}, {.type = LC_TYPE_UTF8}};
  static const int32_t twice[2] = {0, 0}, second[1] = {1};
  CHECK_EQUAL(LC_OK, new_store(columns, 2, first, 1, second, 1, first, 1, 1, 0));
  REFUSED(new_store(columns, 0, first, 1, NULL, 0, first, 1, 1, 0));
  REFUSED(new_store(columns, (1 << 16) + 1, first, 1, NULL, 0, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 0, NULL, 0, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 1, NULL, 0, first, 0, 1, 0));
  REFUSED(new_store(columns, 2, twice, 2, NULL, 0, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, below, 1, NULL, 0, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, above, 1, NULL, 0, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 1, above, 1, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 1, first, -1, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 1, first, 3, first, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 1, NULL, 0, above, 1, 1, 0));
  REFUSED(new_store(columns, 2, first, 1, NULL, 0, second, 1, 1, 0)); /* no key column */
  REFUSED(new_store(columns, 2, first, 1, NULL, 0, first, 1, 0, 0));
  REFUSED(new_store(columns, 2, first, 1, NULL, 0, first, 1, 65537, 0));
  REFUSED(new_store(columns, 2, first, 1, NULL, 0, first, 1, 1, -1));
  REFUSED_WITH(columns[1].type, 0, new_store(columns, 2, first, 1, NULL, 0, first, 1, 1, 0));
  lc_table *store;
  CHECK_EQUAL(LC_OK, lc_table_new(columns, 2, first, 1, NULL, 0, first, 1, 4, 0, &store, NULL));
  TWO_COLUMNS(in);
  struct ArrowArray out;
  CHECK_EQUAL(LC_OK, lc_table_upsert(store, &in.array, NULL));
  static const int64_t rows[2] = {0, 3}, negative[1] = {-2};
  REFUSED(lc_table_take(store, rows, -1, first, 1, &out, &refused_error));
  REFUSED(lc_table_take(store, rows, 1, first, -1, &out, &refused_error));
  REFUSED(lc_table_take(store, rows, 1, twice, 3, &out, &refused_error));
  REFUSED(lc_table_take(store, rows, 2, first, 1, &out, &refused_error));
  CHECK_EQUAL(1, refused_error.row);
  REFUSED(lc_table_take(store, negative, 1, first, 1, &out, &refused_error));
  REFUSED(lc_table_take(store, rows, 1, twice, 2, &out, &refused_error));
  REFUSED(lc_table_take(store, rows, 1, below, 1, &out, &refused_error));
  REFUSED(lc_table_take(store, rows, 1, above, 1, &out, &refused_error));
  REFUSED(lc_table_whole(store, -2, &out, &refused_error));
  REFUSED(lc_table_whole(store, 4, &out, &refused_error));
  in.array.n_children = 1;
  REFUSED(lc_table_matches(store, &in.array, &out, &refused_error)); /* no index */
  REFUSED(lc_table_upsert(store, &in.array, &refused_error));
  CHECK_EQUAL(3, lc_table_rows(store));
  lc_table_free(store);
}

static void test_windows(void) {
  TWO_COLUMNS(in);
  int32_t groups[3] = {0, 1, 0}, firsts[3];
  int64_t count;
#define GROUPS(key, key_count) \
  lc_window_groups(&in.array, in.columns, 2, key, key_count, groups, firsts, &count, &refused_error)
  CHECK_EQUAL(LC_OK, GROUPS(first, 1));
  REFUSED(GROUPS(first, -1));
  REFUSED(GROUPS(below, 1));
  REFUSED(GROUPS(above, 1));
#undef GROUPS
  int32_t numbered[3] = {0, 1, 0};
  lc_window_sum sum = {.column = 0, .low = -1};
  lc_column to[2] = {{.precision = 38}, {.type = LC_TYPE_FLOAT64}};
  struct ArrowArray out;
  int accepted = 0;
#define SUMS(weight, outs) \
  lc_window_sums(&in.array, in.columns, 2, numbered, 2, weight, &sum, 1, to, outs, &out, &refused_error)
  in.children[0].n_buffers = 2;
  static const uint8_t wide[96];
  in.buffers[0][1] = wide; /* as many bytes as the widest type has */
  in.columns[0].precision = 9;
  for (sum.kind = 0; sum.kind <= LC_WINDOW_MAX + 1; sum.kind++)
    for (in.columns[0].type = LC_TYPE_BOOL; in.columns[0].type <= LC_TYPE_DECIMAL256; in.columns[0].type++)
      for (to[0].type = LC_TYPE_BOOL; to[0].type <= LC_TYPE_DECIMAL256; to[0].type++)
        if (SUMS(-1, sum.kind == LC_WINDOW_FLOAT ? 2 : 1) == LC_OK) {
          accepted++;
          out.release(&out);
        }
  /* WEIGHT and VALID any column; SUM four integers to three types, 128 to two, 256 to one; FLOAT, NAN and the
   * infinities two types each; MAX two */
  CHECK_EQUAL(12 + 12 + 15 + 2 + 2 + 2 + 2 + 2, accepted);
  in.columns[0].type = to[0].type = LC_TYPE_INT64;
  sum.kind = LC_WINDOW_SUM;
  REFUSED_WITH(sum.column, -1, SUMS(-1, 1));
  REFUSED_WITH(sum.column, 2, SUMS(-1, 1));
  REFUSED(SUMS(-1, 2));
  REFUSED(SUMS(-1, 0));
  REFUSED(SUMS(2, 1));
  REFUSED(SUMS(1, 1)); /* a weight of text */
  REFUSED_WITH(numbered[1], -1, SUMS(-1, 1));
  REFUSED_WITH(numbered[1], 2, SUMS(-1, 1));
  CHECK_EQUAL(1, refused_error.row);
  sum.kind = LC_WINDOW_FLOAT;
  in.columns[0].type = to[0].type = LC_TYPE_FLOAT64;
  REFUSED_WITH(sum.low, 2, SUMS(-1, 2));
  REFUSED_WITH(sum.low, 1, SUMS(-1, 2));
  REFUSED_WITH(to[1].type, LC_TYPE_INT64, SUMS(-1, 2));
#undef SUMS
}

static void test_averages(void) {
  static const uint8_t sums[48];
  check_batch in;
  check_batch_start(&in, 3);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_DECIMAL128, .precision = 20, .scale = 2}, NULL, sums, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  lc_column to[2] = {{.type = LC_TYPE_DECIMAL128, .precision = 38, .scale = 4}, {.type = LC_TYPE_BOOL}};
  struct ArrowArray out;
#define AVERAGES() lc_window_averages(&in.array, in.columns, to, &out, &refused_error)
  CHECK_EQUAL(LC_OK, AVERAGES());
  out.release(&out);
  REFUSED(lc_window_averages(NULL, in.columns, to, &out, &refused_error));
  REFUSED_WITH(in.columns[0].type, LC_TYPE_INT64, AVERAGES());
  REFUSED_WITH(in.columns[1].type, LC_TYPE_INT32, AVERAGES());
  REFUSED_WITH(to[0].type, LC_TYPE_INT64, AVERAGES());
  REFUSED_WITH(to[1].type, LC_TYPE_INT64, AVERAGES());
  REFUSED_WITH(to[0].precision, 39, AVERAGES());
  REFUSED_WITH(to[0].scale, 21, AVERAGES());
  in.columns[0].scale = 20;
  REFUSED_WITH(to[0].scale, 1, AVERAGES());
#undef AVERAGES
}

static void test_latest(void) {
  lc_column key[1] = {{.type = LC_TYPE_INT64}};
  lc_latest *latest;
  REFUSED(lc_latest_new(key, 0, &latest, &refused_error));
  REFUSED(lc_latest_new(key, (1 << 16) + 1, &latest, &refused_error));
  REFUSED_WITH(key[0].type, 0, lc_latest_new(key, 1, &latest, &refused_error));
  CHECK_EQUAL(LC_OK, lc_latest_new(key, 1, &latest, &refused_error));
  TWO_COLUMNS(in);
  int32_t rows[3];
  int64_t count;
  uint8_t positions[96];
  in.array.n_children = 1;
  REFUSED(lc_latest_take(latest, &in.array, rows, &count, positions, &refused_error)); /* no version */
  lc_latest_free(latest);
  lc_latest_free(NULL);
}

int main(void) {
  test_layout();
  test_rows();
  test_decimals();
  test_compact();
  test_table();
  test_windows();
  test_averages();
  test_latest();
  return check_result("contract_batches");
}

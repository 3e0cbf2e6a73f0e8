/* hash: published XXH64 vectors, equal values hash equal, NULL and order count, arguments are checked. */
#include "check.h"

#include "libcore/hash.h"

static void xxh64_gives_the_published_words(void) {
  CHECK(lc_xxh64(NULL, 0, 0) == 0xEF46DB3751D8E999ULL);
  CHECK(lc_xxh64("a", 1, 0) == 0xD24EC4F1A98C6E5BULL);
  CHECK(lc_xxh64("abc", 3, 0) == 0x44BC2CF5AD770999ULL);
  const char *text = "Nobody inspects the spammish repetition"; /* 39 bytes: one stripe and a rest of every size */
  CHECK(lc_xxh64(text, (int64_t)strlen(text), 0) == 0xFBCEA83C8A378BF1ULL);
}

static void integers_of_any_width_hash_alike(void) {
  int8_t narrow[2] = {-7, 100};
  int64_t wide[2] = {-7, 100};
  check_batch a, b;
  check_batch_start(&a, 2);
  check_batch_add(&a, (lc_column){.type = LC_TYPE_INT8}, NULL, narrow, NULL);
  check_batch_start(&b, 2);
  check_batch_add(&b, (lc_column){.type = LC_TYPE_INT64}, NULL, wide, NULL);
  int32_t key[1] = {0};
  uint64_t first[2], second[2];
  CHECK_EQUAL(LC_OK, lc_hash_rows(&a.array, a.columns, 1, key, 1, first, NULL));
  CHECK_EQUAL(LC_OK, lc_hash_rows(&b.array, b.columns, 1, key, 1, second, NULL));
  CHECK(first[0] == second[0] && first[1] == second[1] && first[0] != first[1]);
}

static void decimals_hash_by_value(void) {
  int64_t two[4] = {150, 0, -150, -1}, one[4] = {15, 0, -15, -1}; /* low and high limb of 1.50, -1.50 and 1.5, -1.5 */
  check_batch a, b;
  check_batch_start(&a, 2);
  check_batch_add(&a, (lc_column){.type = LC_TYPE_DECIMAL128, .precision = 18, .scale = 2}, NULL, two, NULL);
  check_batch_start(&b, 2);
  check_batch_add(&b, (lc_column){.type = LC_TYPE_DECIMAL128, .precision = 5, .scale = 1}, NULL, one, NULL);
  int32_t key[1] = {0};
  uint64_t first[2], second[2];
  lc_hash_rows(&a.array, a.columns, 1, key, 1, first, NULL);
  lc_hash_rows(&b.array, b.columns, 1, key, 1, second, NULL);
  CHECK(first[0] == second[0] && first[1] == second[1] && first[0] != first[1]);
}

static void null_has_a_word_and_columns_an_order(void) {
  int64_t left[2] = {1, 2}, right[2] = {2, 1};
  uint8_t validity = 0x2; /* the first is NULL */
  check_batch batch;
  check_batch_start(&batch, 2);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, NULL, left, NULL);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, NULL, right, NULL);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, &validity, left, NULL);
  int32_t there[2] = {0, 1}, nullable[1] = {2}, plain[1] = {0};
  uint64_t hashes[2], with_null[2], without[2];
  lc_hash_rows(&batch.array, batch.columns, 3, there, 2, hashes, NULL);
  CHECK(hashes[0] != hashes[1]); /* (1, 2) is not (2, 1) */
  lc_hash_rows(&batch.array, batch.columns, 3, nullable, 1, with_null, NULL);
  lc_hash_rows(&batch.array, batch.columns, 3, plain, 1, without, NULL);
  CHECK(with_null[0] != without[0] && with_null[1] == without[1]);
}

static void wrong_arguments_are_refused(void) {
  int64_t values[1] = {1};
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, NULL, values, NULL);
  int32_t key[1] = {1};
  uint64_t hash;
  lc_error error = {0};
  CHECK_EQUAL(LC_INVALID, lc_hash_rows(&batch.array, batch.columns, 1, key, 1, &hash, &error));
  CHECK(strstr(error.message, "found 1") != NULL);
  CHECK_EQUAL(LC_INVALID, lc_hash_rows(&batch.array, batch.columns, 2, key, 1, &hash, NULL));
}

int main(void) {
  xxh64_gives_the_published_words();
  integers_of_any_width_hash_alike();
  decimals_hash_by_value();
  null_has_a_word_and_columns_an_order();
  wrong_arguments_are_refused();
  return check_result("hash");
}

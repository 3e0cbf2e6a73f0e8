/* digest: by value, NULL is neither empty nor unset, the sum carries, arguments and allocations fail cleanly. */
#include "check.h"

#include "libcore/digest.h"

static lc_digest_column plain[2] = {{0, 0, 0}, {1, 0, 0}};

static lc_code digests_of(const check_batch *batch, int64_t unset, uint8_t *out, uint64_t sum[2]) {
  return lc_digest_rows(&batch->array, batch->columns, batch->array.n_children, plain, 1, unset, 7, out, sum, NULL);
}

static void numbers_count_by_value(void) {
  int64_t wide[4] = {150, 0, -500, -1}; /* low and high limbs of 1.50 and -5.00 */
  int64_t shorter[4] = {15, 0, -50, -1};
  int16_t whole[2] = {7, -5};
  uint8_t a[32], b[32], c[32];
  uint64_t sum[2];
  check_batch batch;
  check_batch_start(&batch, 2);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_DECIMAL128, .precision = 18, .scale = 2}, NULL, wide, NULL);
  CHECK_EQUAL(LC_OK, digests_of(&batch, -1, a, sum));
  check_batch_start(&batch, 2);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_DECIMAL128, .precision = 5, .scale = 1}, NULL, shorter, NULL);
  CHECK_EQUAL(LC_OK, digests_of(&batch, -1, b, sum));
  check_batch_start(&batch, 2);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT16}, NULL, whole, NULL);
  CHECK_EQUAL(LC_OK, digests_of(&batch, -1, c, sum));
  CHECK(memcmp(a, b, 32) == 0);
  CHECK(memcmp(a, a + 16, 16) != 0);
  CHECK(memcmp(a + 16, c + 16, 16) == 0 && memcmp(a, c, 16) != 0);
}

static void null_empty_and_unset_are_three_things(void) {
  int32_t offsets[4] = {0, 0, 0, 0};
  uint8_t validity = 0x6; /* NULL, empty, unset */
  uint8_t bits[3] = {0, 0, 1}, digests[48];
  uint64_t sum[2];
  check_batch batch;
  check_batch_start(&batch, 3);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_UTF8}, &validity, offsets, NULL);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_FIXED, .width = 1}, NULL, bits, NULL);
  CHECK_EQUAL(LC_OK, digests_of(&batch, 1, digests, sum));
  CHECK(memcmp(digests, digests + 16, 16) != 0 && memcmp(digests, digests + 32, 16) != 0);
  CHECK(memcmp(digests + 16, digests + 32, 16) != 0);
}

static void the_sum_is_of_128_bits(void) {
  int64_t values[64];
  for (int64_t i = 0; i < 64; i++)
    values[i] = i * i;
  uint8_t digests[64 * 16];
  uint64_t sum[2], alone[2];
  check_batch batch;
  check_batch_start(&batch, 64);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, NULL, values, NULL);
  CHECK_EQUAL(LC_OK, digests_of(&batch, -1, digests, sum));
  CHECK_EQUAL(LC_OK, digests_of(&batch, -1, NULL, alone));
  unsigned __int128 total = 0;
  for (int64_t i = 0; i < 64; i++) {
    uint64_t words[2];
    memcpy(words, digests + 16 * i, 16);
    total += (unsigned __int128)words[1] << 64 | words[0];
  }
  CHECK(sum[0] == (uint64_t)total && sum[1] == (uint64_t)(total >> 64));
  CHECK(sum[0] == alone[0] && sum[1] == alone[1]);
}

static void wrong_arguments_are_refused(void) {
  int64_t values[1] = {1};
  uint8_t digests[16];
  uint64_t sum[2];
  lc_error error = {0};
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_TIMESTAMP}, NULL, values, NULL);
  lc_digest_column away = {3, 0, 0}, unitless = {0, 10, 0};
  const struct ArrowArray *array = &batch.array;
  CHECK_EQUAL(LC_INVALID, lc_digest_rows(array, batch.columns, 1, &away, 1, -1, 0, digests, sum, &error));
  CHECK(strstr(error.message, "found 3") != NULL);
  CHECK_EQUAL(LC_INVALID, lc_digest_rows(array, batch.columns, 1, &unitless, 1, -1, 0, digests, sum, &error));
  CHECK(strstr(error.message, "found unit 10") != NULL);
  CHECK_EQUAL(LC_INVALID, lc_digest_rows(array, batch.columns, 1, plain, 1, 0, 0, digests, sum, &error));
  CHECK_EQUAL(LC_INVALID, lc_digest_rows(array, batch.columns, 1, plain, 2, -1, 0, digests, sum, NULL));
}

static lc_code with_failing_allocations(void *context) {
  uint8_t digests[16];
  uint64_t sum[2];
  return digests_of(context, -1, digests, sum);
}

int main(void) {
  numbers_count_by_value();
  null_empty_and_unset_are_three_things();
  the_sum_is_of_128_bits();
  wrong_arguments_are_refused();
  int32_t offsets[2] = {0, 3};
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_UTF8}, NULL, offsets, "abc");
  check_allocation_failures(with_failing_allocations, &batch);
  return check_result("digest");
}

/* pgcopy: exact bytes of numbers, bad rows left out, room and kinds checked, allocation failures clean. */
#include "check.h"

#include "libcore/pgcopy.h"
#include "pgnumeric.h"

static bool field_is(const uint8_t *begin, const uint8_t *end, const uint8_t *expected, size_t size) {
  return end == begin + size && memcmp(begin, expected, size) == 0;
}

#define FIELD(...) (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})

static void numerics_have_the_bytes_of_numeric_send(void) {
  uint8_t out[256];
  int32_t reason = 0;
  int64_t money[2] = {123456, 0}; /* 12.3456 */
  CHECK(field_is(out, lc_put_decimal(out, (uint8_t *)money, 16, 4),
                 FIELD(0, 0, 0, 12, 0, 2, 0, 0, 0, 0, 0, 4, 0, 12, 0x0D, 0x80)));
  int64_t discount[2] = {-15, -1}; /* -0.15: one group, at the place behind the point */
  CHECK(field_is(out, lc_put_decimal(out, (uint8_t *)discount, 16, 2),
                 FIELD(0, 0, 0, 10, 0, 1, 0xFF, 0xFF, 0x40, 0, 0, 2, 0x05, 0xDC)));
  int64_t zero[2] = {0, 0};
  CHECK(field_is(out, lc_put_decimal(out, (uint8_t *)zero, 16, 2), FIELD(0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2)));
  CHECK(field_is(out, lc_put_numeric(out, (const uint8_t *)"0012.3456", 9, &reason),
                 FIELD(0, 0, 0, 12, 0, 2, 0, 0, 0, 0, 0, 4, 0, 12, 0x0D, 0x80)));
  CHECK(field_is(out, lc_put_numeric(out, (const uint8_t *)"-0.15", 5, &reason),
                 FIELD(0, 0, 0, 10, 0, 1, 0xFF, 0xFF, 0x40, 0, 0, 2, 0x05, 0xDC)));
  CHECK(field_is(out, lc_put_numeric(out, (const uint8_t *)"NaN", 3, &reason),
                 FIELD(0, 0, 0, 8, 0, 0, 0, 0, 0xC0, 0, 0, 0)));
}

static void the_widest_decimals_stay_inside_their_bound(void) {
  uint8_t out[LC_PG_DECIMAL_BYTES(32) + 1];
  uint64_t least[4] = {0, 0, 0, 1ULL << 63}; /* -2^255, beyond decimal(76): memory may hold it all the same */
  for (int32_t scale = 0; scale <= 76; scale++) {
    out[LC_PG_DECIMAL_BYTES(32)] = 0xA5;
    CHECK(lc_put_decimal(out, (uint8_t *)least, 32, scale) <= out + LC_PG_DECIMAL_BYTES(32));
    out[LC_PG_DECIMAL_BYTES(16)] = 0xA5;
    CHECK(lc_put_decimal(out, (uint8_t *)&least[2], 16, scale % 39) <= out + LC_PG_DECIMAL_BYTES(16));
    CHECK_EQUAL(0xA5, out[LC_PG_DECIMAL_BYTES(16)]);
  }
}

static void texts_that_are_no_numbers_are_refused(void) {
  uint8_t out[256];
  const char *bad[] = {"", "-", "+1", "1.", ".5", "1e5", "1 ", "0x1", "nan", "--1", "1.2.3"};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    int32_t reason = 0;
    CHECK(lc_put_numeric(out, (const uint8_t *)bad[i], (int64_t)strlen(bad[i]), &reason) == NULL);
    CHECK_EQUAL(LC_PG_BAD_NUMBER, reason);
  }
}

static int64_t numbers[3] = {1, 2, 3};
static int32_t ends[4] = {0, 1, 4, 5};
static const char texts[] =
    "a"
    "b\0b"
    "c"; /* the second one holds a 0 byte */
static int32_t kinds[2] = {LC_PG_INT, LC_PG_TEXT};

static void make(check_batch *batch) {
  check_batch_start(batch, 3);
  check_batch_add(batch, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  check_batch_add(batch, (lc_column){.type = LC_TYPE_UTF8}, NULL, ends, texts);
}

static void a_bad_row_is_left_out_and_named(void) {
  check_batch batch;
  make(&batch);
  uint8_t out[256];
  lc_pg_error errors[1];
  lc_pg_result result;
  int64_t bound = lc_pgcopy_bound(&batch.array, batch.columns, kinds, 2, NULL);
  CHECK(bound > 0 && bound <= 256);
  CHECK_EQUAL(LC_OK, lc_pgcopy(&batch.array, batch.columns, kinds, 2, 1, out, bound, errors, 1, &result, NULL));
  CHECK_EQUAL(2, result.rows);
  CHECK_EQUAL(1, result.error_count);
  CHECK(errors[0].row == 1 && errors[0].column == 1 && errors[0].reason == LC_PG_NUL);
  CHECK_EQUAL(19 + 2 * (2 + 12 + 5) + 2, result.size);
  CHECK(memcmp(out, "PGCOPY\n\377\r\n", 11) == 0 && out[result.size - 1] == 0xFF);
  CHECK_EQUAL(LC_OK, lc_pgcopy(&batch.array, batch.columns, kinds, 2, 0, out, bound, NULL, 0, &result, NULL));
  CHECK_EQUAL(2 * (2 + 12 + 5), result.size); /* unframed; the error is counted where there is no room to name it */
  CHECK_EQUAL(1, result.error_count);
}

static void wrong_arguments_are_refused(void) {
  check_batch batch;
  make(&batch);
  uint8_t out[8];
  lc_pg_result result;
  lc_error error = {0};
  CHECK_EQUAL(LC_CAPACITY, lc_pgcopy(&batch.array, batch.columns, kinds, 2, 1, out, 8, NULL, 0, &result, &error));
  int32_t wrong[2] = {LC_PG_TEXT, LC_PG_TEXT};
  CHECK_EQUAL(-1, lc_pgcopy_bound(&batch.array, batch.columns, wrong, 2, &error));
  CHECK(strstr(error.message, "column 0") != NULL);
}

static lc_code copy(void *context) {
  check_batch *batch = context;
  uint8_t out[256];
  lc_pg_error errors[4];
  lc_pg_result result;
  return lc_pgcopy(&batch->array, batch->columns, kinds, 2, 1, out, sizeof out, errors, 4, &result, NULL);
}

int main(void) {
  check_batch batch;
  make(&batch);
  numerics_have_the_bytes_of_numeric_send();
  the_widest_decimals_stay_inside_their_bound();
  texts_that_are_no_numbers_are_refused();
  a_bad_row_is_left_out_and_named();
  wrong_arguments_are_refused();
  check_allocation_failures(copy, &batch);
  return check_result("pgcopy");
}

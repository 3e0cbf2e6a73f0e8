/* slots: rows go to their bucket in order, take copies by index, and no failed allocation leaks or is hidden. */
#include "check.h"

#include "libcore/slots.h"

#define ROWS 6

static int64_t numbers[ROWS] = {10, 11, 12, 13, 14, 15};
static int32_t offsets[ROWS + 1] = {0, 1, 3, 3, 23, 24, 25};
static const char texts[] =
    "a"
    "bb"
    ""
    "twenty characters .."
    "d"
    "e";                                   /* the last one ends where the buffer ends */
static uint8_t flags = 0x15, valid = 0x3B; /* bit 2 is NULL */
static uint64_t hashes[ROWS] = {0, 1, 2, 0, 4, 3};
static uint8_t buckets_of_3[3] = {7, 9, 7};

static void make(check_batch *batch) {
  check_batch_start(batch, ROWS);
  check_batch_add(batch, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  check_batch_add(batch, (lc_column){.type = LC_TYPE_UTF8}, &valid, offsets, texts);
  check_batch_add(batch, (lc_column){.type = LC_TYPE_BOOL}, NULL, &flags, NULL);
}

static lc_code scatter(void *context) {
  check_batch *batch = context;
  struct ArrowArray out[LC_BUCKETS_MAX];
  lc_code code = lc_scatter(&batch->array, batch->columns, batch->array.n_children, hashes, 3, buckets_of_3, out, NULL);
  for (int b = 0; b < LC_BUCKETS_MAX; b++)
    if (out[b].release != NULL) {
      CHECK_EQUAL(LC_OK, code);
      out[b].release(&out[b]);
    }
  return code;
}

static lc_code take(void *context) {
  check_batch *batch = context;
  int32_t rows[3] = {5, 0, 5};
  struct ArrowArray out;
  lc_code code = lc_take(&batch->array, batch->columns, batch->array.n_children, rows, 3, &out, NULL);
  if (code == LC_OK) out.release(&out);
  return code;
}

static void rows_go_to_their_bucket_in_order(void) {
  check_batch batch;
  make(&batch);
  struct ArrowArray out[LC_BUCKETS_MAX];
  lc_error error = {0};
  CHECK_EQUAL(LC_OK, lc_scatter(&batch.array, batch.columns, 3, hashes, 3, buckets_of_3, out, &error));
  const int64_t *seven = out[7].children[0]->buffers[1], *nine = out[9].children[0]->buffers[1];
  CHECK_EQUAL(4, out[7].length); /* slots 0, 2, 0, 0 */
  CHECK(seven[0] == 10 && seven[1] == 12 && seven[2] == 13 && seven[3] == 15);
  CHECK_EQUAL(2, out[9].length);
  CHECK(nine[0] == 11 && nine[1] == 14);
  CHECK_EQUAL(1, out[7].children[1]->null_count);
  const int32_t *ends = out[7].children[1]->buffers[1];
  CHECK_EQUAL(22, ends[4]);
  CHECK(memcmp(out[7].children[1]->buffers[2], "atwenty characters ..e", 22) == 0);
  CHECK_EQUAL(0x3, ((const uint8_t *)out[7].children[2]->buffers[1])[0]); /* rows 0, 2, 3, 5 of 010101 */
  int filled = 0;
  for (int b = 0; b < LC_BUCKETS_MAX; b++)
    filled += out[b].release != NULL;
  CHECK_EQUAL(2, filled);
  out[7].release(&out[7]);
  out[9].release(&out[9]);
}

static void wrong_arguments_are_refused(void) {
  check_batch batch;
  make(&batch);
  struct ArrowArray out[LC_BUCKETS_MAX];
  lc_error error = {0};
  CHECK_EQUAL(LC_INVALID, lc_scatter(&batch.array, batch.columns, 3, hashes, 0, buckets_of_3, out, &error));
  CHECK_EQUAL(LC_INVALID, lc_scatter(&batch.array, batch.columns, 2, hashes, 3, buckets_of_3, out, &error));
  CHECK(out[0].release == NULL && out[255].release == NULL);
  int32_t rows[2] = {0, ROWS};
  CHECK_EQUAL(LC_INVALID, lc_take(&batch.array, batch.columns, 3, rows, 2, out, &error));
  CHECK_EQUAL(1, error.row);
}

static void a_column_that_grows_too_large_is_refused(void) {
  static char kilobytes[64 << 10];
  static int32_t many[1 << 15]; /* 2^15 times row 0 of 2^16 bytes: 2^31 */
  int32_t ends[2] = {0, 64 << 10};
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, ends, kilobytes);
  struct ArrowArray out;
  CHECK_EQUAL(LC_CAPACITY, lc_take(&batch.array, batch.columns, 1, many, 1 << 15, &out, NULL));
}

int main(void) {
  check_batch batch;
  make(&batch);
  rows_go_to_their_bucket_in_order();
  wrong_arguments_are_refused();
  a_column_that_grows_too_large_is_refused();
  check_allocation_failures(scatter, &batch);
  check_allocation_failures(take, &batch);
  return check_result("slots");
}

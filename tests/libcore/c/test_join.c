/* join: older versions are dropped, positions rise, keys keep apart, allocation failures change nothing. */
#include "check.h"

#include "libcore/join.h"

#define ROWS 6

static const lc_column INT64 = {.type = LC_TYPE_INT64};

/* Two key columns, int64 and text, of which each row's text is the byte `text[row]`, or empty for 0. */
typedef struct results {
  check_batch batch;
  int64_t key[ROWS], version[ROWS];
  int32_t offsets[ROWS + 1];
  uint8_t text[ROWS], valid;
} results;

static void make(results *r, const int64_t *keys, const char *texts, const int64_t *versions, uint8_t valid) {
  *r = (results){.valid = valid};
  for (int row = 0; row < ROWS; row++) {
    r->key[row] = keys[row];
    r->version[row] = versions[row];
    r->offsets[row + 1] = r->offsets[row] + (texts[row] != '-');
    r->text[r->offsets[row]] = (uint8_t)texts[row];
  }
  check_batch_start(&r->batch, ROWS);
  check_batch_add(&r->batch, INT64, &r->valid, r->key, NULL);
  check_batch_add(&r->batch, (lc_column){.type = LC_TYPE_UTF8}, NULL, r->offsets, r->text);
  check_batch_add(&r->batch, INT64, NULL, r->version, NULL);
}

/* The rows that pass, as digits behind a 1; the last position's last byte in *last. */
static int64_t passing(lc_latest *latest, results *r, int *last) {
  int32_t rows[ROWS];
  uint8_t positions[ROWS * 32];
  int64_t count = -1, digits = 1;
  CHECK_EQUAL(LC_OK, lc_latest_take(latest, &r->batch.array, rows, &count, positions, NULL));
  for (int64_t i = 0; i < count; i++)
    digits = 10 * digits + rows[i];
  if (count > 0) *last = positions[32 * (count - 1) + 31] | positions[32 * (count - 1) + 30] << 8;
  for (int64_t i = 0; i < 32 * count; i++)
    if (i % 32 < 24) CHECK_EQUAL(0, positions[i]);
  return digits;
}

static lc_latest *new_latest(void) {
  lc_latest *latest = NULL;
  CHECK_EQUAL(LC_OK, lc_latest_new((lc_column[]){INT64, {.type = LC_TYPE_UTF8}}, 2, &latest, NULL));
  return latest;
}

static void older_versions_are_dropped_until_cleared(void) {
  lc_latest *latest = new_latest();
  results first, second;
  int last = 0;
  make(&first, (int64_t[]){1, 1, 1, 2, 2, 1}, "aaaaaa", (int64_t[]){5, 4, 5, 1, 2, 6}, 0xff);
  CHECK_EQUAL(102345, passing(latest, &first, &last));
  CHECK_EQUAL(5, last);
  make(&second, (int64_t[]){1, 1, 2, 2, 3, 3}, "aaaaaa", (int64_t[]){5, 6, 1, 2, -7, -8}, 0xff);
  CHECK_EQUAL(1134, passing(latest, &second, &last));
  CHECK_EQUAL(8, last);
  lc_latest_clear(latest);
  CHECK_EQUAL(101234, passing(latest, &second, &last));
  CHECK_EQUAL(13, last);
  lc_latest_free(latest);
}

static void keys_keep_apart(void) {
  lc_latest *latest = new_latest();
  results r;
  int last = 0;
  /* (NULL, "a") is not (0, "a"), (1, "") is not (1, "b"): falling versions would drop a row that met another. */
  make(&r, (int64_t[]){0, 0, 1, 1, 1, 0}, "aa-bca", (int64_t[]){9, 8, 7, 6, 5, 4}, 0xfe);
  CHECK_EQUAL(101234, passing(latest, &r, &last)); /* row 5 meets row 1 */
  lc_latest_free(latest);
}

static void many_keys_grow_the_index_and_clear_gives_it_back(void) {
  enum { MANY = 300000 };
  lc_latest *latest = NULL;
  CHECK_EQUAL(LC_OK, lc_latest_new(&INT64, 1, &latest, NULL));
  int64_t *keys = calloc(MANY, sizeof *keys), *versions = calloc(MANY, sizeof *versions);
  int32_t *rows = calloc(MANY, sizeof *rows);
  uint8_t *positions = calloc(MANY, 32);
  check_batch batch;
  for (int64_t i = 0; i < MANY; i++)
    keys[i] = i * 7919;
  check_batch_start(&batch, MANY);
  check_batch_add(&batch, INT64, NULL, keys, NULL);
  check_batch_add(&batch, INT64, NULL, versions, NULL);
  int64_t count = 0;
  for (int round = 0; round < 2; round++) {
    CHECK_EQUAL(LC_OK, lc_latest_take(latest, &batch.array, rows, &count, positions, NULL));
    CHECK_EQUAL(MANY, count);
    for (int64_t i = 0; i < MANY; i++)
      versions[i] = i % 2 ? -1 : 1;
    CHECK_EQUAL(LC_OK, lc_latest_take(latest, &batch.array, rows, &count, positions, NULL));
    CHECK_EQUAL(MANY / 2, count);
    CHECK_EQUAL(MANY - 2, rows[count - 1]);
    memset(versions, 0, MANY * sizeof *versions);
    lc_latest_clear(latest);
  }
  lc_latest_free(latest);
  free(keys);
  free(versions);
  free(rows);
  free(positions);
}

static void other_layouts_are_refused(void) {
  lc_latest *latest = new_latest();
  results r;
  lc_error error = {0};
  int32_t rows[ROWS];
  uint8_t positions[ROWS * 32];
  int64_t count = -1;
  make(&r, (int64_t[]){1, 1, 1, 1, 1, 1}, "aaaaaa", (int64_t[]){1, 1, 1, 1, 1, 1}, 0xff);
  r.batch.array.n_children = 2;
  CHECK_EQUAL(LC_INVALID, lc_latest_take(latest, &r.batch.array, rows, &count, positions, &error));
  CHECK_EQUAL(0, count);
  lc_latest_free(latest);
  CHECK_EQUAL(LC_INVALID, lc_latest_new(&INT64, 0, &latest, &error));
  CHECK_EQUAL(LC_INVALID, lc_latest_new(&(lc_column){.type = 99}, 1, &latest, &error));
}

/* After a failed call the same call passes the same rows. */
static lc_code take_twice(void *context) {
  lc_latest *latest = NULL;
  int32_t rows[ROWS];
  uint8_t positions[ROWS * 32];
  int64_t count = 0;
  results *r = context;
  lc_code code = lc_latest_new((lc_column[]){INT64, {.type = LC_TYPE_UTF8}}, 2, &latest, NULL);
  if (code != LC_OK) return code;
  code = lc_latest_take(latest, &r->batch.array, rows, &count, positions, NULL);
  if (code != LC_OK) {
    CHECK_EQUAL(0, count);
    int64_t again = lc_test_alloc_fail_at;
    int persist = lc_test_alloc_persist;
    lc_test_alloc_fail_at = lc_test_alloc_persist = 0;
    CHECK_EQUAL(LC_OK, lc_latest_take(latest, &r->batch.array, rows, &count, positions, NULL));
    CHECK_EQUAL(5, count);
    CHECK_EQUAL(5, positions[32 * 4 + 31]);
    lc_test_alloc_fail_at = again;
    lc_test_alloc_persist = persist;
  }
  lc_latest_free(latest);
  return code;
}

/* Without memory for a small index the large one is emptied. */
static void clear_without_memory(void) {
  enum { MANY = 100000 };
  lc_latest *latest = NULL;
  CHECK_EQUAL(LC_OK, lc_latest_new(&(lc_column){.type = LC_TYPE_INT64}, 1, &latest, NULL));
  int64_t *keys = calloc(MANY, sizeof *keys), count = 0;
  int32_t *rows = calloc(MANY, sizeof *rows);
  uint8_t *positions = calloc(MANY, 32);
  for (int64_t i = 0; i < MANY; i++)
    keys[i] = i;
  check_batch batch;
  check_batch_start(&batch, MANY);
  check_batch_add(&batch, INT64, NULL, keys, NULL);
  check_batch_add(&batch, INT64, NULL, keys, NULL);
  for (int round = 0; round < 2; round++) {
    CHECK_EQUAL(LC_OK, lc_latest_take(latest, &batch.array, rows, &count, positions, NULL));
    CHECK_EQUAL(MANY, count);
    lc_test_alloc_fail_at = 1;
    lc_latest_clear(latest);
    lc_test_alloc_fail_at = 0;
  }
  memset(&keys[0], 0xff, sizeof keys[0]);
  CHECK_EQUAL(LC_OK, lc_latest_take(latest, &batch.array, rows, &count, positions, NULL));
  CHECK_EQUAL(MANY, count);
  lc_latest_free(latest);
  free(keys);
  free(rows);
  free(positions);
}

int main(void) {
  older_versions_are_dropped_until_cleared();
  keys_keep_apart();
  many_keys_grow_the_index_and_clear_gives_it_back();
  other_layouts_are_refused();
  clear_without_memory();
  results r;
  make(&r, (int64_t[]){0, 0, 1, 1, 1, 0}, "aa-bca", (int64_t[]){9, 8, 7, 6, 5, 4}, 0xfe);
  check_allocation_failures(take_twice, &r);
  return check_result("join");
}

/* compact: the last row of a key wins, unset columns are folded, net rows are counted, allocation failures are clean.
 */
#include "check.h"

#include "libcore/compact.h"

#define ROWS 5

typedef struct changes {
  check_batch batch;
  int64_t key[ROWS], value[ROWS], source_ts[ROWS];
  int8_t op[ROWS];
  uint8_t position[ROWS][32], unset[ROWS];
} changes;

/* Columns key, value; ops and positions as given; bit 1 of unset: the row lacks `value`. */
static void make(changes *c, const int64_t *keys, const int8_t *ops, const uint8_t *positions, const uint8_t *unset) {
  *c = (changes){0};
  for (int row = 0; row < ROWS; row++) {
    c->key[row] = keys[row];
    c->value[row] = 100 + row;
    c->op[row] = ops[row];
    c->position[row][31] = positions[row];
    if (unset) c->unset[row] = unset[row];
  }
  check_batch_start(&c->batch, ROWS);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, c->key, NULL);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, c->value, NULL);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_INT8}, NULL, c->op, NULL);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_FIXED, .width = 32}, NULL, c->position, NULL);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_TIMESTAMP}, NULL, c->source_ts, NULL);
  if (unset) check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_FIXED, .width = 1}, NULL, c->unset, NULL);
}

static lc_code run(changes *c, int64_t key_count, struct ArrowArray *out, lc_compact_result *result, lc_error *error) {
  int32_t key[1] = {0};
  return lc_compact(&c->batch.array, c->batch.columns, c->batch.array.n_children, 2, key, key_count, out, result,
                    error);
}

static const int64_t *longs(const struct ArrowArray *out, int c) { return out->children[c]->buffers[1]; }

static void the_greatest_position_wins(void) {
  changes c;
  make(&c, (int64_t[]){1, 2, 1, 2, 3}, (int8_t[]){1, 1, 1, 2, 1}, (uint8_t[]){5, 1, 4, 1, 9}, NULL);
  struct ArrowArray out;
  lc_compact_result result;
  CHECK_EQUAL(LC_OK, run(&c, 1, &out, &result, NULL));
  CHECK_EQUAL(0, result.unchanged);
  CHECK_EQUAL(3, out.length);
  const int64_t *values = longs(&out, 1);
  CHECK(values[0] == 100 && values[1] == 103 && values[2] == 104); /* of equal positions the later row */
  out.release(&out);
}

static void unset_is_filled_up_to_a_delete(void) {
  changes c; /* key 1: a value, then a row without; key 2: a value, a delete, then a row without */
  make(&c, (int64_t[]){1, 1, 2, 2, 2}, (int8_t[]){1, 1, 1, 2, 1}, (uint8_t[]){1, 2, 1, 2, 3},
       (uint8_t[]){0, 2, 0, 0, 2});
  struct ArrowArray out;
  lc_compact_result result;
  CHECK_EQUAL(LC_OK, run(&c, 1, &out, &result, NULL));
  CHECK_EQUAL(2, out.length);
  CHECK_EQUAL(0, result.any_unset);
  CHECK_EQUAL(100, longs(&out, 1)[0]);
  CHECK_EQUAL(1, out.children[1]->null_count);
  CHECK_EQUAL(0, lc_bit_get(out.children[1]->buffers[0], 1));
  out.release(&out);
}

static void what_nobody_has_stays_unset(void) {
  changes c;
  make(&c, (int64_t[]){1, 1, 2, 3, 4}, (int8_t[]){1, 1, 1, 1, 1}, (uint8_t[]){1, 2, 3, 4, 5},
       (uint8_t[]){2, 2, 0, 0, 0});
  struct ArrowArray out;
  lc_compact_result result;
  CHECK_EQUAL(LC_OK, run(&c, 1, &out, &result, NULL));
  CHECK_EQUAL(1, result.any_unset);
  CHECK_EQUAL(2, ((const uint8_t *)out.children[5]->buffers[1])[0]);
  out.release(&out);
}

static void updates_behind_a_delete_are_nothing(void) {
  changes c; /* key 1: a delete, then updates; key 2: two updates */
  make(&c, (int64_t[]){1, 1, 1, 2, 2}, (int8_t[]){2, 7, 7, 7, 7}, (uint8_t[]){1, 2, 3, 4, 5},
       (uint8_t[]){0, 2, 0, 0, 2});
  struct ArrowArray out;
  lc_compact_result result;
  CHECK_EQUAL(LC_OK, run(&c, 1, &out, &result, NULL));
  CHECK_EQUAL(2, out.length);
  const int8_t *ops = out.children[2]->buffers[1];
  CHECK(ops[0] == 2 && ops[1] == 7);
  CHECK_EQUAL(103, longs(&out, 1)[1]);
  out.release(&out);
}

static void rows_that_never_meet_are_not_copied(void) {
  changes c;
  make(&c, (int64_t[]){1, 2, 3, 4, 5}, (int8_t[]){1, 2, 1, 1, 1}, (uint8_t[]){1, 2, 3, 4, 5}, NULL);
  struct ArrowArray out;
  lc_compact_result result;
  CHECK_EQUAL(LC_OK, run(&c, 1, &out, &result, NULL));
  CHECK_EQUAL(1, result.unchanged);
}

static void keyless_rows_are_counted(void) {
  changes c;
  make(&c, (int64_t[]){7, 7, 7, 8, 8}, (int8_t[]){2, 1, 2, 1, 2}, (uint8_t[]){1, 2, 3, 4, 5}, NULL);
  for (int row = 0; row < ROWS; row++)
    c.value[row] = 0;
  struct ArrowArray out;
  lc_compact_result result;
  CHECK_EQUAL(LC_OK, run(&c, 0, &out, &result, NULL));
  CHECK_EQUAL(1, out.length); /* 7: -1; 8: 0 */
  CHECK_EQUAL(2, ((const int8_t *)out.children[2]->buffers[1])[0]);
  CHECK_EQUAL(3, ((const uint8_t *)out.children[3]->buffers[1])[31]);
  out.release(&out);
}

static void other_ops_and_layouts_are_refused(void) {
  changes c;
  struct ArrowArray out;
  lc_compact_result result;
  lc_error error = {0};
  make(&c, (int64_t[]){1, 2, 3, 4, 5}, (int8_t[]){1, 1, 3, 1, 1}, (uint8_t[]){1, 2, 3, 4, 5}, NULL);
  CHECK_EQUAL(LC_DATA, run(&c, 1, &out, &result, &error));
  CHECK_EQUAL(2, error.row);
  make(&c, (int64_t[]){1, 2, 3, 4, 5}, (int8_t[]){1, 1, 1, 1, 1}, (uint8_t[]){1, 2, 3, 4, 5},
       (uint8_t[]){0, 0, 0, 2, 0});
  CHECK_EQUAL(LC_DATA, run(&c, 0, &out, &result, &error));
  CHECK_EQUAL(3, error.row);
  c.batch.columns[5].width = 2;
  CHECK_EQUAL(LC_INVALID, run(&c, 1, &out, &result, &error));
}

static lc_code run_and_free(void *context) {
  struct ArrowArray out = {0};
  lc_compact_result result = {0};
  lc_code code = run(context, 1, &out, &result, NULL);
  if (out.release != NULL) out.release(&out);
  return code;
}

static lc_code run_keyless_and_free(void *context) {
  struct ArrowArray out = {0};
  lc_compact_result result = {0};
  lc_code code = run(context, 0, &out, &result, NULL);
  if (out.release != NULL) out.release(&out);
  return code;
}

int main(void) {
  the_greatest_position_wins();
  unset_is_filled_up_to_a_delete();
  what_nobody_has_stays_unset();
  updates_behind_a_delete_are_nothing();
  rows_that_never_meet_are_not_copied();
  keyless_rows_are_counted();
  other_ops_and_layouts_are_refused();
  changes folded, counted;
  make(&folded, (int64_t[]){1, 1, 2, 2, 2}, (int8_t[]){1, 1, 1, 2, 1}, (uint8_t[]){1, 2, 1, 2, 3},
       (uint8_t[]){0, 2, 0, 0, 2});
  check_allocation_failures(run_and_free, &folded);
  make(&counted, (int64_t[]){7, 7, 7, 8, 8}, (int8_t[]){2, 1, 2, 1, 2}, (uint8_t[]){1, 2, 3, 4, 5}, NULL);
  for (int row = 0; row < ROWS; row++)
    counted.value[row] = 0;
  check_allocation_failures(run_keyless_and_free, &counted);
  return check_result("compact");
}

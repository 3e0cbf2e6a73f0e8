/* transform: exact results at the ends of the types, rounding, codes, as-of look-ups, arguments and allocations. */
#include "check.h"

#include "libcore/transform.h"

static lc_column decimals[2] = {{LC_TYPE_DECIMAL128, 0, 18, 2}, {LC_TYPE_DECIMAL128, 0, 18, 2}};

static void fill(check_batch *batch, int64_t *left, int64_t *right, int64_t rows) {
  check_batch_start(batch, rows);
  check_batch_add(batch, decimals[0], NULL, left, NULL);
  check_batch_add(batch, decimals[1], NULL, right, NULL);
}

static int64_t first_of(struct ArrowArray *out) {
  int64_t value;
  memcpy(&value, out->children[0]->buffers[1], sizeof value);
  out->release(out);
  return value;
}

static void rounds_once_as_said(void) {
  int64_t left[2] = {5, 0}, right[2] = {-50, -1}; /* 0.05 * -0.50 = -0.025 */
  int64_t expected[3] = {-2, -3, -2};
  for (int32_t rounding = LC_HALF_EVEN; rounding <= LC_DOWN; rounding++) {
    check_batch batch;
    struct ArrowArray out;
    int32_t code = 9;
    fill(&batch, left, right, 1);
    CHECK_EQUAL(LC_OK, lc_decimal_arithmetic(&batch.array, batch.columns, LC_MULTIPLY, rounding, 18, 2, &out, &code,
                                             NULL));
    CHECK_EQUAL(0, code);
    CHECK_EQUAL(expected[rounding], first_of(&out));
  }
}

static void errors_are_of_their_row(void) {
  int64_t left[4] = {999, 0, 100, 0}, right[4] = {0, 0, 300, 0};
  int32_t codes[2];
  check_batch batch;
  struct ArrowArray out;
  fill(&batch, left, right, 2);
  CHECK_EQUAL(LC_OK, lc_decimal_arithmetic(&batch.array, batch.columns, LC_DIVIDE, 0, 18, 4, &out, codes, NULL));
  CHECK(codes[0] == LC_TRANSFORM_ZERO && codes[1] == 0 && out.children[0]->null_count == 1);
  out.release(&out);
  CHECK_EQUAL(LC_OK, lc_decimal_arithmetic(&batch.array, batch.columns, LC_ADD, 0, 3, 2, &out, codes, NULL));
  CHECK(codes[0] == 0 && codes[1] == 0);
  out.release(&out);
  CHECK_EQUAL(LC_OK, lc_decimal_arithmetic(&batch.array, batch.columns, LC_ADD, 0, 2, 2, &out, codes, NULL));
  CHECK(codes[0] == LC_TRANSFORM_RANGE && codes[1] == LC_TRANSFORM_RANGE);
  out.release(&out);
}

static void factors_are_chosen_by_row(void) {
  uint8_t factors[192] = {0};
  factors[0] = 9, factors[32] = 160, factors[64] = 5; /* (9 x + 160) / 5: Celsius to Fahrenheit, whole degrees */
  factors[96] = 1, factors[160] = 1;
  int64_t x[6] = {100, 0, 7, 0, 3, 0};
  int32_t chosen[3] = {0, 1, -1}, codes[3];
  check_batch batch;
  struct ArrowArray out;
  check_batch_start(&batch, 3);
  check_batch_add(&batch, (lc_column){LC_TYPE_DECIMAL128, 0, 18, 0}, NULL, x, NULL);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT32}, NULL, chosen, NULL);
  const struct ArrowArray *array = &batch.array;
  CHECK_EQUAL(LC_OK, lc_decimal_affine(array, batch.columns, factors, 2, 0, 18, 0, &out, codes, NULL));
  CHECK(codes[0] == 0 && codes[1] == 0 && codes[2] == LC_TRANSFORM_MISSING);
  const int64_t *values = out.children[0]->buffers[1];
  CHECK(values[0] == 212 && values[2] == 7);
  out.release(&out);
  CHECK_EQUAL(LC_INVALID, lc_decimal_affine(array, batch.columns, factors, 1, 0, 18, 0, &out, codes, NULL));
  factors[160] = 0;
  CHECK_EQUAL(LC_INVALID, lc_decimal_affine(array, batch.columns, factors, 2, 0, 18, 0, &out, codes, NULL));
}

static void as_of_stays_in_its_group(void) {
  int64_t keys[3] = {1LL << 32 | 5, 1LL << 32 | 9, 2LL << 32 | 1};
  int64_t probes[5] = {1LL << 32 | 4, 1LL << 32 | 5, 1LL << 32 | 100, 2LL << 32, -1};
  int32_t found[5], expected[5] = {-1, 0, 1, -1, -1};
  lc_asof_search(keys, 3, probes, 5, found);
  for (int i = 0; i < 5; i++)
    CHECK_EQUAL(expected[i], found[i]);
  lc_asof_search(keys, 0, probes, 1, found);
  CHECK_EQUAL(-1, found[0]);
}

static lc_code with_failing_allocations(void *context) {
  check_batch *batch = context;
  struct ArrowArray out;
  int32_t codes[1];
  lc_code code = lc_decimal_arithmetic(&batch->array, batch->columns, LC_ADD, 0, 38, 2, &out, codes, NULL);
  if (code == LC_OK) out.release(&out);
  return code;
}

int main(void) {
  rounds_once_as_said();
  errors_are_of_their_row();
  factors_are_chosen_by_row();
  as_of_stays_in_its_group();
  int64_t left[2] = {1, 0}, right[2] = {2, 0};
  check_batch batch;
  struct ArrowArray out;
  int32_t codes[1];
  fill(&batch, left, right, 1);
  CHECK_EQUAL(LC_INVALID, lc_decimal_arithmetic(&batch.array, batch.columns, 4, 0, 38, 2, &out, codes, NULL));
  CHECK_EQUAL(LC_INVALID, lc_decimal_arithmetic(&batch.array, batch.columns, 0, 3, 38, 2, &out, codes, NULL));
  CHECK_EQUAL(LC_INVALID, lc_decimal_arithmetic(&batch.array, batch.columns, 0, 0, 77, 2, &out, codes, NULL));
  check_allocation_failures(with_failing_allocations, &batch);
  return check_result("transform");
}

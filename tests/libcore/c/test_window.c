/* window: groups are numbered as they come, sums wrap and take back, averages round half to even. */
#include "check.h"

#include <math.h>

#include "libcore/window.h"

#define ROWS 6

typedef struct rows {
  check_batch batch;
  int64_t number[ROWS];
  uint64_t wide[ROWS][4];
  double real[ROWS];
  int8_t sign[ROWS];
  uint8_t validity[1];
} rows;

/* Columns number int64 (row 5 NULL), wide decimal256, real float64, sign int8. */
static void make(rows *r, const int64_t *numbers, const double *reals, const int8_t *signs) {
  *r = (rows){.validity = {0x1f}};
  for (int row = 0; row < ROWS; row++) {
    r->number[row] = numbers[row];
    r->wide[row][0] = (uint64_t)numbers[row];
    r->wide[row][1] = r->wide[row][2] = r->wide[row][3] = numbers[row] < 0 ? UINT64_MAX : 0;
    r->real[row] = reals[row];
    r->sign[row] = signs[row];
  }
  check_batch_start(&r->batch, ROWS);
  check_batch_add(&r->batch, (lc_column){.type = LC_TYPE_INT64}, r->validity, r->number, NULL);
  check_batch_add(&r->batch, (lc_column){.type = LC_TYPE_DECIMAL256, .precision = 76}, NULL, r->wide, NULL);
  check_batch_add(&r->batch, (lc_column){.type = LC_TYPE_FLOAT64}, NULL, r->real, NULL);
  check_batch_add(&r->batch, (lc_column){.type = LC_TYPE_INT8}, NULL, r->sign, NULL);
}

static void some(rows *r) {
  make(r, (int64_t[]){7, -3, 7, 4, 7, 9}, (double[]){1e300, 1, -INFINITY, NAN, 1e300, 0.5},
       (int8_t[]){1, 1, 1, 1, -1, 1});
}

static void groups_are_numbered_as_they_come(void) {
  rows r;
  some(&r);
  int32_t groups[ROWS], firsts[ROWS], key[1] = {0};
  int64_t count = 0;
  CHECK_EQUAL(LC_OK, lc_window_groups(&r.batch.array, r.batch.columns, 4, key, 1, groups, firsts, &count, NULL));
  CHECK_EQUAL(4, count);
  int32_t expected[ROWS] = {0, 1, 0, 2, 0, 3};
  CHECK(memcmp(groups, expected, sizeof expected) == 0);
  CHECK(firsts[0] == 0 && firsts[1] == 1 && firsts[2] == 3 && firsts[3] == 5);
  CHECK_EQUAL(LC_OK, lc_window_groups(&r.batch.array, r.batch.columns, 4, key, 0, groups, firsts, &count, NULL));
  CHECK_EQUAL(1, count);
  key[0] = 4;
  CHECK_EQUAL(LC_INVALID, lc_window_groups(&r.batch.array, r.batch.columns, 4, key, 1, groups, firsts, &count, NULL));
}

static const int32_t IN_TWO[ROWS] = {0, 1, 0, 1, 0, 1};
static const lc_window_sum SUMS[] = {
    {LC_WINDOW_WEIGHT, -1, -1},      {LC_WINDOW_VALID, 0, -1}, {LC_WINDOW_SUM, 0, -1},          {LC_WINDOW_SUM, 1, -1},
    {LC_WINDOW_FLOAT, 2, -1},        {LC_WINDOW_NAN, 2, -1},   {LC_WINDOW_MINUS_INFINITY, 2, -1},
    {LC_WINDOW_MAX, 0, -1},          {LC_WINDOW_PLUS_INFINITY, 2, -1}};
static const lc_column OUT[] = {{.type = LC_TYPE_INT64},
                                {.type = LC_TYPE_INT64},
                                {.type = LC_TYPE_DECIMAL128, .precision = 38},
                                {.type = LC_TYPE_DECIMAL256, .precision = 76},
                                {.type = LC_TYPE_FLOAT64},
                                {.type = LC_TYPE_FLOAT64},
                                {.type = LC_TYPE_INT64},
                                {.type = LC_TYPE_INT64},
                                {.type = LC_TYPE_INT64},
                                {.type = LC_TYPE_INT64}};

static lc_code sum(rows *r, const int32_t *groups, int64_t sum_count, int64_t out_count, int32_t weight,
                   struct ArrowArray *out, lc_error *error) {
  return lc_window_sums(&r->batch.array, r->batch.columns, 4, groups, 2, weight, SUMS, sum_count, OUT, out_count, out,
                        error);
}

static void rows_are_counted_in_and_out(void) {
  rows r;
  some(&r);
  struct ArrowArray out;
  CHECK_EQUAL(LC_OK, sum(&r, IN_TWO, 9, 10, 3, &out, NULL));
  const int64_t *weights = out.children[0]->buffers[1], *valid = out.children[1]->buffers[1];
  CHECK(weights[0] == 1 && weights[1] == 3 && valid[0] == 1 && valid[1] == 2);
  const uint64_t *narrow = out.children[2]->buffers[1], *wide = out.children[3]->buffers[1];
  CHECK(narrow[0] == 7 && narrow[1] == 0 && narrow[2] == 1 && narrow[3] == 0); /* the NULL of row 5 is passed over */
  CHECK(wide[0] == 7 && wide[3] == 0 && wide[4] == 10 && wide[7] == 0);
  const double *high = out.children[4]->buffers[1];
  CHECK(high[0] == 0 && high[1] == 1.5);
  CHECK_EQUAL(1, ((const int64_t *)out.children[6]->buffers[1])[1]);
  CHECK_EQUAL(1, ((const int64_t *)out.children[7]->buffers[1])[0]);
  const int64_t *greatest = out.children[8]->buffers[1];
  CHECK(greatest[0] == 7 && greatest[1] == 4);
  out.release(&out);
}

static void negative_weights_reach_the_highest_limb(void) {
  rows r;
  make(&r, (int64_t[]){5, 1, -6, 0, 0, 0}, (double[ROWS]){0}, (int8_t[]){-1, -1, -1, 1, 1, 1});
  struct ArrowArray out;
  CHECK_EQUAL(LC_OK, sum(&r, (const int32_t[]){0, 0, 1, 1, 1, 1}, 4, 4, 3, &out, NULL));
  const uint64_t *wide = out.children[3]->buffers[1];
  CHECK(wide[0] == (uint64_t)-6 && wide[1] == UINT64_MAX && wide[3] == UINT64_MAX);
  CHECK(wide[4] == 6 && wide[5] == 0 && wide[7] == 0);
  out.release(&out);
}

static void what_does_not_fit_is_refused(void) {
  rows r;
  some(&r);
  struct ArrowArray out;
  lc_error error = {0};
  CHECK_EQUAL(LC_INVALID, sum(&r, (const int32_t[]){0, 1, 0, 2, 0, 0}, 1, 1, -1, &out, &error));
  CHECK_EQUAL(3, error.row);
  CHECK_EQUAL(LC_INVALID, sum(&r, (const int32_t[]){0, -1, 0, 0, 0, 0}, 1, 1, -1, &out, &error));
  CHECK_EQUAL(LC_INVALID, sum(&r, IN_TWO, 5, 5, -1, &out, &error)); /* the float needs a second column */
  CHECK_EQUAL(-1, error.row);
  CHECK_EQUAL(LC_INVALID, sum(&r, IN_TWO, 1, 2, -1, &out, &error));
  CHECK_EQUAL(LC_INVALID, sum(&r, IN_TWO, 1, 1, 2, &out, &error)); /* a weight that is a float */
  r.batch.columns[0].type = LC_TYPE_TIME64;
  CHECK_EQUAL(LC_INVALID, sum(&r, IN_TWO, 3, 3, -1, &out, &error));
}

typedef struct division {
  check_batch batch;
  int64_t sums[4][2], counts[4];
} division;

static void divide(division *d) {
  *d = (division){.sums = {{5, 0}, {15, 0}, {-15, -1}, {7, 0}}, .counts = {10, 10, 10, 0}};
  check_batch_start(&d->batch, 4);
  check_batch_add(&d->batch, (lc_column){.type = LC_TYPE_DECIMAL128, .precision = 38}, NULL, d->sums, NULL);
  check_batch_add(&d->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, d->counts, NULL);
}

static lc_code average(division *d, int32_t precision, int32_t scale, struct ArrowArray *out) {
  lc_column to[2] = {{.type = LC_TYPE_DECIMAL256, .precision = precision, .scale = scale}, {.type = LC_TYPE_BOOL}};
  return lc_window_averages(&d->batch.array, d->batch.columns, to, out, NULL);
}

static void averages_round_half_to_even(void) {
  division d;
  divide(&d);
  struct ArrowArray out;
  CHECK_EQUAL(LC_OK, average(&d, 76, 0, &out));
  const int64_t *quotients = out.children[0]->buffers[1];
  CHECK(quotients[0] == 0 && quotients[4] == 2 && quotients[8] == -2 && quotients[11] == -1);
  CHECK_EQUAL(1, out.children[0]->null_count); /* a count of 0 */
  CHECK_EQUAL(0xf, ((const uint8_t *)out.children[1]->buffers[1])[0]);
  out.release(&out);
  CHECK_EQUAL(LC_OK, average(&d, 2, 2, &out)); /* 1.50 has three digits */
  CHECK_EQUAL(0x9, ((const uint8_t *)out.children[1]->buffers[1])[0]);
  out.release(&out);
  CHECK_EQUAL(LC_INVALID, average(&d, 76, 19, &out));
  d.counts[0] = INT64_MAX; /* the divisor has more than 64 bits */
  d.batch.columns[0].scale = 18;
  CHECK_EQUAL(LC_OK, average(&d, 76, 0, &out));
  CHECK_EQUAL(0, ((const int64_t *)out.children[0]->buffers[1])[0]);
  out.release(&out);
}

static lc_code run_and_free(void *context) {
  rows *r = context;
  int32_t groups[ROWS], firsts[ROWS], key[1] = {0};
  int64_t count;
  struct ArrowArray out = {0};
  lc_code code = lc_window_groups(&r->batch.array, r->batch.columns, 4, key, 1, groups, firsts, &count, NULL);
  if (code == LC_OK) code = sum(r, IN_TWO, 9, 10, 3, &out, NULL);
  if (out.release != NULL) out.release(&out);
  return code;
}

static lc_code divide_and_free(void *context) {
  struct ArrowArray out = {0};
  lc_code code = average(context, 76, 0, &out);
  if (out.release != NULL) out.release(&out);
  return code;
}

int main(void) {
  groups_are_numbered_as_they_come();
  rows_are_counted_in_and_out();
  negative_weights_reach_the_highest_limb();
  what_does_not_fit_is_refused();
  averages_round_half_to_even();
  rows r;
  some(&r);
  check_allocation_failures(run_and_free, &r);
  division d;
  divide(&d);
  check_allocation_failures(divide_and_free, &d);
  return check_result("window");
}

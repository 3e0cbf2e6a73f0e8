/* join, stages (a) and (b): who goes where, what is filled from state, what is refused, allocation failures. */
#include "check.h"

#include "libcore/join.h"

enum { ROWS = 4, SLOTS = 4 };

static const lc_column FACT[] = {{.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT32}, {.type = LC_TYPE_UTF8}};
static const lc_column DIMENSION[] = {{.type = LC_TYPE_INT64}, {.type = LC_TYPE_UTF8}};
static const lc_column UNSET = {.type = LC_TYPE_FIXED, .width = 1};
static const int32_t NUMBERS[] = {0, 1, 2};
static const int64_t SLOT_KEYS[SLOTS] = {10, 11, 12, 13}; /* any four keys do for the counter of a test */

/* fact (id, order, note) and dimension (id, status); the result takes the status. */
static lc_join_plan plan_of(bool inner) {
  static const int32_t place[] = {1, 0};
  return (lc_join_plan){.fact = FACT, .fact_count = 3, .dimension = DIMENSION, .dimension_count = 2,
                        .fact_key = NUMBERS, .fact_key_count = 1, .foreign_key = NUMBERS + 1, .foreign_key_count = 1,
                        .place = place, .place_count = 2, .held = NUMBERS, .held_count = 3,
                        .held_foreign_key = NUMBERS + 1, .dimension_key = NUMBERS, .partner = NUMBERS,
                        .partner_count = 2, .taken = NUMBERS + 1, .taken_count = 1, .inner = inner};
}

/* Changes of a table whose columns are (int64 id, perhaps int32 order, one letter of text). */
typedef struct changes {
  check_batch batch;
  int64_t id[ROWS], stamp[ROWS];
  int32_t order[ROWS], offsets[ROWS + 1];
  uint8_t text[ROWS], op[ROWS], position[ROWS * 32], unset[ROWS], valid;
} changes;

/* order -1: NULL; unset: bits of each row. */
static void make(changes *c, int rows, const int64_t *ids, const int32_t *orders, const char *texts, const char *ops,
                 const uint8_t *unset) {
  *c = (changes){.valid = 0xff};
  for (int row = 0; row < rows; row++) {
    c->id[row] = ids[row];
    c->order[row] = orders == NULL ? 0 : orders[row];
    if (orders != NULL && orders[row] < 0) c->valid &= (uint8_t)~(1 << row);
    c->text[row] = (uint8_t)texts[row];
    c->offsets[row + 1] = row + 1;
    c->op[row] = (uint8_t)(ops[row] - '0');
    c->position[32 * row + 31] = (uint8_t)row;
    c->stamp[row] = row;
    if (unset != NULL) c->unset[row] = unset[row];
  }
  check_batch_start(&c->batch, rows);
  check_batch_add(&c->batch, FACT[0], NULL, c->id, NULL);
  if (orders != NULL) check_batch_add(&c->batch, FACT[1], &c->valid, c->order, NULL);
  check_batch_add(&c->batch, FACT[2], NULL, c->offsets, c->text);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_INT8}, NULL, c->op, NULL);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_FIXED, .width = 32}, NULL, c->position, NULL);
  check_batch_add(&c->batch, (lc_column){.type = LC_TYPE_TIMESTAMP}, NULL, c->stamp, NULL);
  if (unset != NULL) check_batch_add(&c->batch, UNSET, NULL, c->unset, NULL);
}

typedef struct stages {
  lc_join_plan plan;
  lc_table *keys, *counter, *facts, *dimension;
} stages;

static void stages_free(stages *s) {
  lc_table_free(s->keys);
  lc_table_free(s->counter);
  lc_table_free(s->facts);
  lc_table_free(s->dimension);
}

static lc_code stages_new(stages *s, bool inner) {
  *s = (stages){.plan = plan_of(inner)};
  const lc_column keys[] = {FACT[0], FACT[1], FACT[2], UNSET};
  const lc_column facts[] = {FACT[0], FACT[1], FACT[2], FACT[0], UNSET};
  const lc_column dimension[] = {DIMENSION[0], DIMENSION[1], UNSET}, counter[] = {FACT[0], FACT[0]};
  lc_code code = lc_table_new(keys, 4, NUMBERS, 1, NULL, 0, NUMBERS, 1, SLOTS, 0, &s->keys, NULL);
  if (code == LC_OK) code = lc_table_new(counter, 2, NUMBERS, 1, NULL, 0, NUMBERS, 1, SLOTS, 0, &s->counter, NULL);
  if (code == LC_OK)
    code = lc_table_new(facts, 5, s->plan.place, 2, NUMBERS + 1, 1, NUMBERS + 1, 1, SLOTS, 0, &s->facts, NULL);
  if (code == LC_OK)
    code = lc_table_new(dimension, 3, NUMBERS, 1, NULL, 0, NUMBERS, 1, SLOTS, 0, &s->dimension, NULL);
  if (code != LC_OK) stages_free(s);
  return code;
}

/* What comes out of a call, as a line a row: op id order note status, '-' for NULL; '?' for an unset column. */
static void tell(char *text, const struct ArrowArray *batch, bool with_status, bool with_unset) {
  const int texts = with_status ? 2 : 1, first = 3 + with_status;
  for (int64_t row = 0; row < batch->length; row++) {
    const uint8_t *ops = batch->children[first]->buffers[1];
    int64_t at = row + batch->children[0]->offset;
    const uint8_t *unset = with_unset ? batch->children[first + 3]->buffers[1] : NULL;
    text += sprintf(text, "%d %d ", ops[row + batch->children[first]->offset],
                    (int)((const int64_t *)batch->children[0]->buffers[1])[at]);
    bool order = lc_is_valid(batch->children[1], row);
    at = row + batch->children[1]->offset;
    text += sprintf(text, order ? "%d " : "- ", ((const int32_t *)batch->children[1]->buffers[1])[at]);
    for (int t = 0; t < texts; t++) {
      const struct ArrowArray *child = batch->children[2 + t];
      const int32_t *offsets = (const int32_t *)child->buffers[1] + child->offset;
      bool lack = unset != NULL && (unset[row] >> (2 + t) & 1), valid = lc_is_valid(child, row);
      *text++ = lack ? '?' : valid ? ((const char *)child->buffers[2])[offsets[row]] : '-';
    }
    *text++ = '\n';
  }
  *text = 0;
}

#define CHECK_TEXT(expected, found)                                                   \
  do {                                                                                \
    CHECK(strcmp(expected, found) == 0);                                              \
    if (strcmp(expected, found) != 0) fprintf(stderr, "found:\n%s", found);           \
  } while (0)

/* One call of each stage for a batch of facts; entering, direct and result as text. */
static lc_code facts(stages *s, changes *c, char entering[256], char direct[256], char result[256]) {
  lc_join_routed routed;
  entering[0] = direct[0] = result[0] = 0;
  bool with_unset = c->batch.array.n_children > 6;
  lc_code code = lc_join_route(&s->plan, s->keys, s->counter, SLOT_KEYS, &c->batch.array, with_unset, &routed, NULL);
  if (code != LC_OK) return code;
  if (routed.direct.release != NULL) {
    tell(direct, &routed.direct, true, routed.direct_unset);
    routed.direct.release(&routed.direct);
  }
  if (routed.entering.release == NULL) return LC_OK;
  tell(entering, &routed.entering, false, routed.entering_unset);
  int64_t rows = routed.entering.length, used = 0;
  lc_join_results *results = NULL;
  code = lc_join_facts(&s->plan, s->facts, s->dimension, &routed.entering, routed.entering_unset, &results, &used,
                       NULL);
  CHECK(routed.entering.release == NULL);
  if (code != LC_OK) return code;
  CHECK_EQUAL(rows, used);
  struct ArrowArray out;
  int32_t unset;
  while ((code = lc_join_next(results, 2, &out, &unset, NULL)) == LC_OK && out.release != NULL) {
    CHECK(out.length <= 2);
    tell(result + strlen(result), &out, true, unset);
    out.release(&out);
  }
  lc_join_results_free(results);
  return code;
}

static lc_code dimension(stages *s, changes *c, char result[256]) {
  lc_join_results *results = NULL;
  result[0] = 0;
  bool with_unset = c->batch.array.n_children > 5;
  lc_code code =
      lc_join_dimension(&s->plan, s->facts, s->dimension, &c->batch.array, with_unset, &results, NULL);
  struct ArrowArray out;
  int32_t unset;
  while (code == LC_OK && (code = lc_join_next(results, 2, &out, &unset, NULL)) == LC_OK && out.release != NULL) {
    tell(result + strlen(result), &out, true, unset);
    out.release(&out);
  }
  lc_join_results_free(results);
  return code;
}

static void facts_meet_move_and_go(void) {
  stages s;
  changes c;
  char entering[256], direct[256], result[256];
  CHECK_EQUAL(LC_OK, stages_new(&s, true));
  make(&c, 2, (int64_t[]){1, 2}, NULL, "ab", "66", NULL);
  CHECK_EQUAL(LC_OK, dimension(&s, &c, result));
  CHECK_TEXT("", result);
  /* New ones: at 1, at 2, at 9 without partner, and without foreign key. */
  make(&c, 4, (int64_t[]){5, 6, 7, 8}, (int32_t[]){1, 2, 9, -1}, "wxyz", "6161", NULL);
  CHECK_EQUAL(LC_OK, facts(&s, &c, entering, direct, result));
  CHECK_TEXT("6 5 1 w\n6 6 2 x\n6 7 9 y\n", entering);
  CHECK_TEXT("", direct);
  CHECK_TEXT("6 5 1 wa\n6 6 2 xb\n", result);
  /* 5 moves to 9, 6 loses its key, 7 goes, 8 gets one; of two changes of 5 the later stays. */
  make(&c, 4, (int64_t[]){5, 6, 7, 5}, (int32_t[]){2, -1, 9, 9}, "stuv", "1121", NULL);
  CHECK_EQUAL(LC_OK, facts(&s, &c, entering, direct, result));
  CHECK_TEXT("2 6 2 -\n2 5 1 -\n2 7 9 -\n1 5 9 v\n", entering);
  CHECK_TEXT("2 6 - --\n2 7 - --\n", direct);
  CHECK_TEXT("2 5 - --\n", result);
  /* A partner that comes brings its facts, one that goes takes them along; what is the same says nothing. */
  make(&c, 2, (int64_t[]){9, 1}, NULL, "ca", "61", NULL);
  CHECK_EQUAL(LC_OK, dimension(&s, &c, result));
  CHECK_TEXT("6 5 9 vc\n", result);
  make(&c, 1, (int64_t[]){9}, NULL, "-", "2", NULL);
  CHECK_EQUAL(LC_OK, dimension(&s, &c, result));
  CHECK_TEXT("2 5 - --\n", result);
  stages_free(&s);
}

static void what_is_unset_is_filled(void) {
  stages s;
  changes c;
  char entering[256], direct[256], result[256];
  CHECK_EQUAL(LC_OK, stages_new(&s, false));
  make(&c, 2, (int64_t[]){5, 6}, (int32_t[]){1, 1}, "wx", "66", NULL);
  CHECK_EQUAL(LC_OK, facts(&s, &c, entering, direct, result));
  CHECK_TEXT("6 5 1 w-\n6 6 1 x-\n", result);
  /* 5 moves without its note, 7 is new without one. */
  make(&c, 2, (int64_t[]){5, 7}, (int32_t[]){2, -1}, "??", "11", (uint8_t[]){4, 4});
  CHECK_EQUAL(LC_OK, facts(&s, &c, entering, direct, result));
  CHECK_TEXT("2 5 1 -\n1 5 2 w\n", entering);
  CHECK_TEXT("6 7 - ?-\n", direct);
  CHECK_TEXT("1 5 2 w-\n", result);
  make(&c, 1, (int64_t[]){2}, NULL, "?", "6", (uint8_t[]){2});
  CHECK_EQUAL(LC_OK, dimension(&s, &c, result));
  CHECK_TEXT("1 5 2 w?\n", result);
  stages_free(&s);
}

static void a_wrong_op_and_a_wrong_layout_are_refused(void) {
  stages s;
  changes c;
  lc_error error = {0};
  lc_join_routed routed;
  lc_join_results *results = NULL;
  CHECK_EQUAL(LC_OK, stages_new(&s, true));
  make(&c, 2, (int64_t[]){5, 6}, (int32_t[]){1, 1}, "wx", "64", NULL);
  CHECK_EQUAL(LC_DATA,
              lc_join_route(&s.plan, s.keys, s.counter, SLOT_KEYS, &c.batch.array, false, &routed, &error));
  CHECK_EQUAL(1, error.row);
  CHECK_EQUAL(0, lc_table_rows(s.keys));
  CHECK_EQUAL(LC_INVALID,
              lc_join_dimension(&s.plan, s.facts, s.dimension, &c.batch.array, false, &results, &error));
  stages_free(&s);
}

/* Every allocation of all calls fails once; what was made is freed. */
static lc_code all_calls(void *context) {
  stages s;
  changes c;
  char entering[256], direct[256], result[256];
  lc_code code = stages_new(&s, *(bool *)context);
  if (code != LC_OK) return code;
  make(&c, 2, (int64_t[]){1, 2}, NULL, "ab", "66", NULL);
  code = dimension(&s, &c, result);
  make(&c, 4, (int64_t[]){5, 6, 7, 5}, (int32_t[]){1, 2, -1, 1}, "wxyz", "6161", NULL);
  if (code == LC_OK) code = facts(&s, &c, entering, direct, result);
  make(&c, 3, (int64_t[]){5, 6, 7}, (int32_t[]){9, 2, 1}, "???", "121", (uint8_t[]){4, 0, 4});
  if (code == LC_OK) code = facts(&s, &c, entering, direct, result);
  make(&c, 3, (int64_t[]){1, 2, 9}, NULL, "?bc", "126", (uint8_t[]){2, 0, 0});
  if (code == LC_OK) code = dimension(&s, &c, result);
  make(&c, 1, (int64_t[]){9}, NULL, "-", "2", NULL);
  if (code == LC_OK) code = dimension(&s, &c, result);
  stages_free(&s);
  return code;
}

int main(void) {
  facts_meet_move_and_go();
  what_is_unset_is_filled();
  a_wrong_op_and_a_wrong_layout_are_refused();
  check_allocation_failures(all_calls, &(bool){true});
  check_allocation_failures(all_calls, &(bool){false});
  return check_result("join_stages");
}

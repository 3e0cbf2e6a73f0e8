/* avro: rows of every column, faults, stops, plans that do not hold together, allocation failures. */
#include "avro_plan.h"

typedef struct world {
  every_avro value, key;
  lc_avro_plan plan;
  check_batch batch;
  int32_t offsets[4], key_offsets[4];
  int64_t numbers[3];
  lc_decoded made;
} world;

static void make(world *w, bool flat, int64_t count, const int32_t *offsets, const char *values) {
  w->plan = (lc_avro_plan){.rows = every_plan(), .framing = 4, .mode = flat ? LC_AVRO_FLAT : LC_AVRO_ENVELOPE};
  w->plan.value = every_avro_schema(&w->value, flat);
  w->plan.key = every_avro_key(&w->key);
  memset(w->key_offsets, 0, sizeof w->key_offsets);
  memset(w->numbers, 0, sizeof w->numbers);
  memcpy(w->offsets, offsets, (size_t)(count + 1) * sizeof *offsets);
  check_batch_start(&w->batch, count);
  check_batch_add(&w->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, w->key_offsets, "");
  check_batch_add(&w->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, w->offsets, values);
  check_batch_add(&w->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, w->numbers, NULL);
  check_batch_add(&w->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, w->numbers, NULL);
}

static lc_code run(world *w, lc_error *error) {
  lc_envelope_state state = {.redelivered = -1};
  return lc_avro_decode(&w->plan, &w->batch.array, 0, &state, 0, &w->made, error);
}

/* id -2, s "hi", i2 3, b true, f4 1.5, all else null. */
static const char FLAT[] =
    "\0\0\0\0\7\2\3\2\4hi\2\6\2\1\2\0\0\300\77\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

static int32_t flat_size(void) { return 5 + 2 + 4 + 2 + 2 + 5 + (EVERY_COUNT - 5); }

static void a_row_of_its_values(void) {
  world w;
  make(&w, true, 1, (int32_t[]){0, flat_size()}, FLAT);
  CHECK_EQUAL(LC_OK, run(&w, NULL));
  CHECK_EQUAL(1, w.made.row_count);
  CHECK_EQUAL(0, w.made.error_count);
  if (w.made.row_count == 1) {
    struct ArrowArray **c = w.made.batch.children;
    CHECK_EQUAL(-2, *(const int64_t *)c[0]->buffers[1]);
    CHECK(memcmp(c[1]->buffers[2], "hi", 2) == 0);
    CHECK_EQUAL(3, *(const int16_t *)c[2]->buffers[1]);
    CHECK(lc_bit_get(c[3]->buffers[1], 0));
    CHECK(*(const float *)c[4]->buffers[1] == 1.5f);
    CHECK_EQUAL(1, c[5]->null_count);
    CHECK_EQUAL(1, *(const int8_t *)c[EVERY_COUNT]->buffers[1]);
  }
  lc_decoded_free(&w.made);
}

static void faults_have_their_place(void) {
  world w; /* cut short; a branch that is none; a byte behind */
  char values[256];
  int32_t size = flat_size();
  memcpy(values, FLAT, (size_t)size - 1);
  memcpy(values + size - 1, FLAT, (size_t)size);
  values[size - 1 + 5] = 4;
  memcpy(values + 2 * size - 1, FLAT, (size_t)size);
  values[3 * size - 1] = 0;
  make(&w, true, 3, (int32_t[]){0, size - 1, 2 * size - 1, 3 * size}, values);
  CHECK_EQUAL(LC_OK, run(&w, NULL));
  CHECK_EQUAL(3, w.made.error_count);
  int64_t positions[3] = {size - 1, 5, size};
  for (int i = 0; i < 3 && i < w.made.error_count; i++) {
    CHECK_EQUAL(LC_ROW_SYNTAX, w.made.errors[i].code);
    CHECK_EQUAL(positions[i], w.made.errors[i].position);
  }
  lc_decoded_free(&w.made);
}

static void another_schema_stops(void) {
  world w;
  make(&w, true, 1, (int32_t[]){0, flat_size()}, FLAT);
  w.plan.value.id = 9;
  CHECK_EQUAL(LC_OK, run(&w, NULL));
  CHECK_EQUAL(LC_STOP_SCHEMA, w.made.stop);
  CHECK_EQUAL(0, w.made.consumed);
  lc_decoded_free(&w.made);
}

static void plans_that_do_not_hold_together(void) {
  world w;
  lc_error error;
  for (int wrong = 0; wrong < 7; wrong++) {
    make(&w, wrong == 6, 1, (int32_t[]){0, flat_size()}, FLAT);
    lc_avro_node *root = &w.value.nodes[w.plan.value.root];
    if (wrong == 0) root->first = PARTS_MAX;
    if (wrong == 1) w.plan.value.root = w.value.node_count;
    if (wrong == 2) w.value.parts[root->first].node = -1;
    if (wrong == 3) w.plan.framing = 5;
    if (wrong == 4) w.plan.rows.stop_on_unknown = 1;
    if (wrong == 5) w.value.nodes[0].kind = 15;
    if (wrong == 6) w.value.parts[root->first].role = EVERY_COUNT;
    CHECK_EQUAL(LC_INVALID, run(&w, &error));
  }
}

static lc_code decode_both(void *context) {
  world *w = context;
  lc_error error;
  lc_code code = run(w, &error);
  if (code == LC_OK) lc_decoded_free(&w->made);
  return code;
}

/* A row with an array, JSON and a numeric struct, one fault, and a placeholder. */
static void allocation_failures_are_clean(void) {
  char values[512];
  int32_t at = 0, size = 0;
  memcpy(values, "\0\0\0\0\7\2\3", 7);
  at = 7;
  for (int32_t c = 1; c < EVERY_COUNT; c++) {
    const char *name = EVERY_COLUMN[c].name;
    if (strcmp(name, "s") == 0) {
      memcpy(values + at, "\2\10__ph", 6);
      at += 6;
    } else if (strcmp(name, "rj") == 0) {
      memcpy(values + at, "\2\0\2\2k\2\0\0\0\0\0\0\370\77\0\0\2abc\4hi", 23);
      at += 23;
    } else if (strcmp(name, "ai") == 0) {
      memcpy(values + at, "\2\4\2\2\0\0", 6);
      at += 6;
    } else if (strcmp(name, "ns") == 0) {
      memcpy(values + at, "\2\4\2\5", 4);
      at += 4;
    } else {
      values[at++] = 0;
    }
  }
  size = at;
  memcpy(values + at, FLAT, 12);
  at += 12;
  world w;
  make(&w, true, 2, (int32_t[]){0, size, at}, values);
  lc_error error;
  CHECK_EQUAL(LC_OK, run(&w, &error));
  CHECK_EQUAL(1, w.made.row_count);
  CHECK_EQUAL(1, w.made.error_count);
  CHECK_EQUAL(1, w.made.has_unset);
  lc_decoded_free(&w.made);
  check_allocation_failures(decode_both, &w);
}

int main(void) {
  a_row_of_its_values();
  faults_have_their_place();
  another_schema_stops();
  plans_that_do_not_hold_together();
  allocation_failures_are_clean();
  return check_result("avro");
}

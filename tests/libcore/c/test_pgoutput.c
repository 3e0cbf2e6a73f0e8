/* pgoutput: transactions become rows with positions, a call stops where it must, allocation failures are clean. */
#include "check.h"
#include "pgoutput_plan.h"

enum { MESSAGES_MAX = 16, BYTES_MAX = 4096 };

typedef struct slot {
  check_batch batch;
  int32_t offsets[MESSAGES_MAX + 1];
  int64_t lsns[MESSAGES_MAX];
  uint8_t bytes[BYTES_MAX];
  int count;
} slot;

static void put(slot *s, const void *bytes, int size) {
  memcpy(s->bytes + s->offsets[s->count + 1], bytes, (size_t)size);
  s->offsets[s->count + 1] += size;
}
static void put32(slot *s, uint32_t value) {
  uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
  put(s, bytes, 4);
}
static void ends(slot *s, int64_t lsn) {
  s->lsns[s->count++] = lsn;
  s->offsets[s->count + 1 <= MESSAGES_MAX ? s->count + 1 : MESSAGES_MAX] = s->offsets[s->count];
}
static void begin(slot *s, uint32_t commit_lsn) {
  put(s, "B\0\0\0\0", 5);
  put32(s, commit_lsn);
  put(s, "\0\0\0\0\0\0\0\5\0\0\0\7", 12);
  ends(s, 0);
}
static void commit(slot *s) {
  put(s, "C\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0\0", 26);
  ends(s, 0);
}
static void text(slot *s, const char *value) {
  put(s, "t", 1);
  put32(s, (uint32_t)strlen(value));
  put(s, value, (int)strlen(value));
}
/* I, U or D of the keyless relation: (old) and new as texts; NULL: left out. */
static void change(slot *s, const char *kind, const char *old, const char *new) {
  put(s, kind, 1);
  put32(s, KEYLESS_OID);
  for (int i = 0; i < 2; i++) {
    const char *value = i == 0 ? old : new;
    if (value == NULL) continue;
    put(s, i == 0 ? "O\0\2" : "N\0\2", 3);
    text(s, value);
    text(s, "row");
  }
  ends(s, 100);
}
/* A row of the relation with every kind. */
static void every(slot *s, const char *id) {
  static const char *const values[] = {"t",     "-5",   "4294967295", "1.5",        "-2.5e10",  "text",
                                       "{}",    "1.25", "-7",         "1.0",        "\\x00ff",  "2024-02-29",
                                       "24:00:00", "2024-02-29 12:00:00", "2024-02-29 12:00:00+02", "u", "1 day",
                                       "12:00:00+00", "101", "skipped"};
  put(s, "I\0\0\x40\0N\0\x15", 8);
  text(s, id);
  for (size_t i = 0; i < sizeof values / sizeof *values; i++)
    text(s, values[i]);
  ends(s, 108);
}

static lc_code run(slot *s, const lc_pgoutput_plan *plan, const lc_pgoutput_state *state, lc_pgoutput_decoded *out) {
  int64_t changes[3] = {0};
  lc_error error;
  check_batch_start(&s->batch, s->count);
  check_batch_add(&s->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, s->offsets, s->bytes);
  check_batch_add(&s->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, s->lsns, NULL);
  return lc_pgoutput_decode(plan, &s->batch.array, 0, state, changes, 0, out, &error);
}

static slot transaction(void) {
  slot s = {0};
  begin(&s, 500);
  change(&s, "I", NULL, "1");
  change(&s, "U", "1", "2");
  every(&s, "12");
  change(&s, "I", NULL, "bad");
  change(&s, "D", "2", NULL);
  put(&s, "M\0\0\0\0\0\0\0\0\0p\0\0\0\0\1x", 17);
  ends(&s, 0);
  commit(&s);
  return s;
}

static void a_transaction_gives_rows_in_order(void) {
  slot s = transaction();
  lc_pgoutput_plan plan = every_pgoutput_plan();
  lc_pgoutput_state state = {0};
  lc_pgoutput_decoded out;
  CHECK_EQUAL(LC_OK, run(&s, &plan, &state, &out));
  CHECK_EQUAL(2, out.row_sets);
  CHECK_EQUAL(8, out.consumed);
  const struct ArrowArray *log = &out.rows[0].batch, *all = &out.rows[1].batch;
  CHECK_EQUAL(4, log->length);
  const int8_t *ops = log->children[2]->buffers[1];
  CHECK(ops[0] == 1 && ops[1] == 2 && ops[2] == 1 && ops[3] == 2);
  const int32_t *values = log->children[0]->buffers[1];
  CHECK(values[0] == 1 && values[1] == 1 && values[2] == 2 && values[3] == 2);
  const uint8_t *positions = log->children[3]->buffers[1];
  for (int row = 1; row < 4; row++)
    CHECK(memcmp(positions + 32 * (row - 1), positions + 32 * row, 32) < 0);
  CHECK(positions[13] == 0xf4 && positions[28] == 100 && positions[31 + 32] == 2 && positions[31 + 64] == 3);
  CHECK_EQUAL(1, all->length);
  CHECK_EQUAL(1, out.rows[1].has_unset);
  CHECK_EQUAL(12, ((const int64_t *)all->children[0]->buffers[1])[0]);
  CHECK_EQUAL(1, all->children[20]->null_count);
  CHECK_EQUAL(1, out.error_count);
  CHECK_EQUAL(LC_ROW_TYPE, out.errors[0].code);
  CHECK_EQUAL(4, out.errors[0].message);
  CHECK_EQUAL(3, out.errors[0].number);
  CHECK_EQUAL(1, out.commit_count);
  CHECK_EQUAL(2, out.share_count);
  CHECK_EQUAL(1, out.event_count);
  CHECK_EQUAL(0, out.state.open);
  state = (lc_pgoutput_state){0};
  memcpy(state.after, out.state.after, 32);
  lc_pgoutput_free(&out);
  CHECK_EQUAL(LC_OK, run(&s, &plan, &state, &out)); /* the same again gives nothing */
  CHECK_EQUAL(0, out.row_sets);
  CHECK_EQUAL(0, out.error_count);
  CHECK_EQUAL(5, out.redelivered);
  lc_pgoutput_free(&out);
}

static void a_call_stops_before_what_another_answers(void) {
  static const struct {
    const char *bytes;
    int size, stop;
  } cases[] = {{"T\0\0\0\0\0", 6, LC_PGOUTPUT_STOP_TRUNCATE}, {"S\0\0\0\1\1", 6, LC_PGOUTPUT_STOP_STREAM},
               {"R\0\0\x40\0", 5, LC_PGOUTPUT_STOP_NONE},      {"R\0\0\x40\1", 5, LC_PGOUTPUT_STOP_RELATION},
               {"I\0\0\0\1", 5, LC_PGOUTPUT_STOP_UNKNOWN},     {"P", 1, LC_PGOUTPUT_STOP_PREPARED},
               {"I\0\0\0", 4, LC_PGOUTPUT_STOP_BROKEN},        {"?", 1, LC_PGOUTPUT_STOP_BROKEN}};
  lc_pgoutput_plan plan = every_pgoutput_plan();
  lc_pgoutput_state state = {.open = 1, .commit_lsn = 500};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    slot s = {0};
    put(&s, cases[i].bytes, cases[i].size);
    ends(&s, 100);
    lc_pgoutput_decoded out;
    CHECK_EQUAL(LC_OK, run(&s, &plan, &state, &out));
    CHECK_EQUAL(cases[i].stop, out.stop);
    CHECK_EQUAL(cases[i].stop == LC_PGOUTPUT_STOP_NONE, out.consumed);
    CHECK_EQUAL(cases[i].stop == LC_PGOUTPUT_STOP_BROKEN, out.error_count);
    lc_pgoutput_free(&out);
  }
}

static void a_plan_that_does_not_fit_is_refused(void) {
  slot s = {0};
  lc_pgoutput_state state = {0};
  lc_pgoutput_decoded out;
  const lc_pgoutput_wire wrong[] = {{LC_PGOUTPUT_BOOL, 0}, {LC_PGOUTPUT_TEXT, 1}};
  lc_pgoutput_relation relations[2] = {EVERY_RELATION[1], EVERY_RELATION[1]};
  lc_pgoutput_plan plan = {.relations = relations, .relation_count = 2};
  CHECK_EQUAL(LC_INVALID, run(&s, &plan, &state, &out)); /* an oid twice */
  plan.relation_count = 1;
  CHECK_EQUAL(LC_OK, run(&s, &plan, &state, &out));
  lc_pgoutput_free(&out);
  relations[0].wire = wrong;
  CHECK_EQUAL(LC_INVALID, run(&s, &plan, &state, &out));
}

static lc_code run_and_free(void *context) {
  lc_pgoutput_plan plan = every_pgoutput_plan();
  lc_pgoutput_state state = {0};
  lc_pgoutput_decoded out;
  lc_code code = run(context, &plan, &state, &out);
  if (code == LC_OK) lc_pgoutput_free(&out);
  return code;
}

int main(void) {
  a_transaction_gives_rows_in_order();
  a_call_stops_before_what_another_answers();
  a_plan_that_does_not_fit_is_refused();
  slot s = transaction();
  check_allocation_failures(run_and_free, &s);
  return check_result("pgoutput");
}

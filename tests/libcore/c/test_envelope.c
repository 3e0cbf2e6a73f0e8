/* The envelope decoder in C: rows, faults, stops, bounds of the input, and every failing allocation. */
#include "libcore/envelope.h"

#include "check.h"
#include "envelope_plan.h"

#define SOURCE ",\"source\":{\"snapshot\":\"false\",\"lsn\":56,\"sequence\":\"[\\\"50\\\",\\\"56\\\"]\",\"ts_us\":5}"
#define CREATE(row) "{\"before\":null,\"after\":" row SOURCE ",\"op\":\"c\"}"

static const char EVERY_ROW[] = CREATE(
    "{\"id\":1,\"s\":\"\\u0041b\",\"i2\":-7,\"b\":true,\"f4\":1.5,\"f8\":1e-30,\"by\":\"AP8Q\",\"dt\":\"12.5\",\"dw\":"
    "1e3,"
    "\"db\":\"gAA=\",\"nt\":\"1.50\",\"ns\":{\"scale\":-3,\"value\":\"/"
    "w==\"},\"ds\":{\"value\":\"AQ==\",\"scale\":1},\"dd\":-1,"
    "\"tm\":86400000,\"sn\":1000,\"z\":\"2018-06-20T15:13:16.945104+02:00\",\"it\":\"01:02:03.5\",\"bits\":\"FQ==\","
    "\"rj\":{\"a\": 1},\"ai\":[1,null],\"at\":[\"a\\\"b\"],\"ad\":[\"1.5\"]}");

/* Messages over a block of exactly their bytes, so that a sanitizer sees one byte too far. */
typedef struct messages {
  check_batch batch;
  uint8_t *block;
  int32_t offsets[17], key_offsets[17];
  int64_t numbers[16];
} messages;

static void messages_make(messages *in, const char *const *values, const char *const *keys, int count) {
  size_t total = 0, key_total = 0;
  for (int i = 0; i < count; i++) {
    total += strlen(values[i]);
    key_total += keys == NULL ? 0 : strlen(keys[i]);
  }
  in->block = malloc(key_total + total + 1);
  if (in->block == NULL) abort();
  uint8_t *value_block = in->block + key_total;
  size_t at = 0, key_at = 0;
  for (int i = 0; i < count; i++) {
    in->offsets[i] = (int32_t)at;
    in->key_offsets[i] = (int32_t)key_at;
    in->numbers[i] = i;
    memcpy(value_block + at, values[i], strlen(values[i]));
    at += strlen(values[i]);
    if (keys == NULL) continue;
    memcpy(in->block + key_at, keys[i], strlen(keys[i]));
    key_at += strlen(keys[i]);
  }
  in->offsets[count] = (int32_t)at;
  in->key_offsets[count] = (int32_t)key_at;
  check_batch_start(&in->batch, count);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->key_offsets, in->block);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, value_block);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
}

static lc_code decode(const lc_envelope_plan *plan, const messages *in, lc_decoded *out) {
  lc_envelope_state state = {.redelivered = -1};
  lc_error error;
  return lc_envelope_decode(plan, &in->batch.array, 0, &state, 0, out, &error);
}

static void check_text(const lc_decoded *made, int64_t column, const char *expected) {
  const struct ArrowArray *child = made->batch.children[column];
  const int32_t *offsets = child->buffers[1];
  size_t size = (size_t)(offsets[1] - offsets[0]);
  CHECK(size == strlen(expected) && memcmp(child->buffers[2], expected, size) == 0);
}

static void test_every_encoding(void) {
  const char *values[] = {EVERY_ROW};
  messages in;
  messages_make(&in, values, NULL, 1);
  lc_envelope_plan plan = every_plan();
  lc_decoded made;
  CHECK_EQUAL(LC_OK, decode(&plan, &in, &made));
  CHECK_EQUAL(1, made.row_count);
  CHECK_EQUAL(0, made.error_count);
  CHECK_EQUAL(0, made.has_unset);
  static const int64_t texts[] = {1, 10, 11, 18, 19, 20, 21, 22};
  static const char *const expected[] = {"Ab",         "1.50",     "-1000",        "10101",
                                         "{\"a\": 1}", "{1,NULL}", "{\"a\\\"b\"}", "{1.50}"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
    check_text(&made, texts[i], expected[i]);
  CHECK_EQUAL(125000, ((const int64_t *)made.batch.children[7]->buffers[1])[0]);
  CHECK_EQUAL(-32768, ((const int64_t *)made.batch.children[9]->buffers[1])[0]);
  CHECK_EQUAL(86400000000, ((const int64_t *)made.batch.children[14]->buffers[1])[0]);
  CHECK_EQUAL(1529500396945104, ((const int64_t *)made.batch.children[16]->buffers[1])[0]);
  const uint8_t *position = made.batch.children[EVERY_COUNT + 1]->buffers[1];
  CHECK_EQUAL(50, position[13]);
  CHECK_EQUAL(56, position[28]);
  lc_decoded_free(&made);
  free(in.block);
}

/* A message cut at any byte is a syntax fault at its length (or a stop), and nothing behind it is read. */
static void test_truncated(void) {
  lc_envelope_plan plan = every_plan();
  char cut[sizeof EVERY_ROW];
  for (size_t size = 0; size < sizeof EVERY_ROW - 1; size++) {
    memcpy(cut, EVERY_ROW, size);
    cut[size] = 0;
    const char *values[] = {EVERY_ROW, cut};
    messages in;
    messages_make(&in, values, NULL, 2);
    lc_decoded made;
    CHECK_EQUAL(LC_OK, decode(&plan, &in, &made));
    CHECK_EQUAL(1, made.error_count);
    CHECK_EQUAL(LC_ROW_SYNTAX, made.errors[0].code);
    CHECK_EQUAL(size, made.errors[0].position);
    CHECK_EQUAL(1, made.row_count);
    lc_decoded_free(&made);
    free(in.block);
  }
}

static void test_faults_and_neighbours(void) {
  const char *values[] = {CREATE("{\"id\":1}"),
                          CREATE("{\"id\":\"1\"}"),
                          CREATE("{\"id\":1,\"id\":2}"),
                          CREATE("{\"id\":1,\"i2\":32768}"),
                          CREATE("{\"s\":\"x\"}"),
                          CREATE("{\"id\":2,\"s\":\"\\ud800\"}"),
                          "{\"op\":\"x\"}",
                          "{\"op\":\"d\",\"before\":{\"id\":3}}",
                          "{\"ts_ms\":1}",
                          "{\"op\":\"t\"}",
                          "{}"};
  messages in;
  messages_make(&in, values, NULL, 11);
  lc_envelope_plan plan = every_plan();
  lc_decoded made;
  CHECK_EQUAL(LC_OK, decode(&plan, &in, &made));
  static const int32_t codes[] = {LC_ROW_TYPE, LC_ROW_DUPLICATE, LC_ROW_RANGE, LC_ROW_KEY, LC_ROW_SURROGATE, LC_ROW_OP};
  static const int64_t positions[] = {29, 31, 36, 0, 36, 0};
  CHECK_EQUAL(6, made.error_count);
  for (int i = 0; i < 6 && i < made.error_count; i++) {
    CHECK_EQUAL(i + 1, made.errors[i].message);
    CHECK_EQUAL(codes[i], made.errors[i].code);
    CHECK_EQUAL(positions[i], made.errors[i].position);
  }
  CHECK_EQUAL(2, made.row_count);
  CHECK_EQUAL(1, made.has_unset);
  CHECK_EQUAL(1, made.event_count);
  CHECK_EQUAL(LC_EVENT_HEARTBEAT, made.events[0].kind);
  CHECK_EQUAL(LC_STOP_TRUNCATE, made.stop);
  CHECK_EQUAL(9, made.consumed);
  lc_decoded_free(&made);
  free(in.block);
}

/* An array whose literal is the plan's `unsent` is not set; one that is longer by an element is a value. */
static void test_unsent_arrays(void) {
  const char *values[] = {CREATE("{\"id\":1,\"ad\":[95,95,112,104]}"), CREATE("{\"id\":2,\"ad\":[95,95,112,104,1]}")};
  messages in;
  messages_make(&in, values, NULL, 2);
  lc_envelope_plan plan = every_plan();
  lc_decoded made;
  CHECK_EQUAL(LC_OK, decode(&plan, &in, &made));
  CHECK_EQUAL(2, made.row_count);
  const struct ArrowArray *arrays = made.batch.children[EVERY_COUNT - 1];
  CHECK_EQUAL(1, arrays->null_count);
  CHECK_EQUAL(2, ((const uint8_t *)arrays->buffers[0])[0] & 3);
  lc_decoded_free(&made);
  free(in.block);
}

static void test_refusals(void) {
  const char *values[] = {"{}"};
  messages in;
  messages_make(&in, values, NULL, 1);
  lc_decoded made;
  lc_error error;
  lc_envelope_state state = {.redelivered = -1};
  lc_envelope_plan plan = every_plan();
  CHECK_EQUAL(LC_INVALID, lc_envelope_decode(&plan, &in.batch.array, 2, &state, 0, &made, &error));
  CHECK_EQUAL(LC_INVALID, lc_envelope_decode(&plan, &in.batch.array, 0, &state, 9, &made, &error));
  plan.schema = (const uint8_t *)"{";
  plan.schema_size = 1;
  CHECK_EQUAL(LC_INVALID, decode(&plan, &in, &made));
  plan = every_plan();
  lc_wire_column wrong = {.name = "a", .name_size = 1, .encoding = LC_ENCODING_INT, .type = LC_TYPE_UTF8};
  plan.columns = &wrong;
  plan.column_count = 1;
  CHECK_EQUAL(LC_INVALID, decode(&plan, &in, &made));
  wrong = (lc_wire_column){.name = "a", .name_size = 1, .encoding = LC_ENCODING_ARRAY, .type = LC_TYPE_UTF8};
  CHECK_EQUAL(LC_INVALID, decode(&plan, &in, &made)); /* an array without an element */
  wrong.item = &ITEM_INT;
  wrong.unsent_size = 1;
  CHECK_EQUAL(LC_INVALID, decode(&plan, &in, &made)); /* a size of no literal */
  plan.column_count = 0;
  CHECK_EQUAL(LC_INVALID, decode(&plan, &in, &made));
  free(in.block);
}

/* The transaction of each row stands in two more columns, and a tombstone deletes nothing. */
static void test_transactions(void) {
  const char *values[] = {CREATE("{\"id\":1},\"transaction\":{\"id\":\"7\\u003a8\",\"data_collection_order\":3}"),
                          CREATE("{\"id\":2}"), "null",
                          CREATE("{\"id\":3},\"transaction\":{\"id\":\"9\"}"),
                          CREATE("{\"id\":4},\"transaction\":{\"id\":9}")};
  const char *keys[] = {"", "", "{\"id\":1}", "", ""};
  messages in;
  messages_make(&in, values, keys, 5);
  lc_envelope_plan plan = every_plan();
  plan.transactions = 1;
  lc_decoded made;
  CHECK_EQUAL(LC_OK, decode(&plan, &in, &made));
  CHECK_EQUAL(3, made.row_count);
  CHECK_EQUAL(EVERY_COUNT + 6, made.batch.n_children); /* rows with missing columns: __unset is there, too */
  const struct ArrowArray *ids = made.batch.children[EVERY_COUNT + 4], *orders = made.batch.children[EVERY_COUNT + 5];
  check_text(&made, EVERY_COUNT + 4, "7:8");
  CHECK_EQUAL(1, ids->null_count);
  CHECK_EQUAL(2, orders->null_count);
  CHECK_EQUAL(3, ((const int64_t *)orders->buffers[1])[0]);
  CHECK_EQUAL(1, made.event_count);
  CHECK_EQUAL(LC_EVENT_TOMBSTONE, made.events[0].kind);
  CHECK_EQUAL(1, made.error_count);
  CHECK_EQUAL(LC_ROW_TYPE, made.errors[0].code);
  lc_decoded_free(&made);
  free(in.block);
}

/* Rows that carry the columns the plan says pass; one that lacks one, has another, or another order ends the call. */
static void test_carried(void) {
  lc_wire_column columns[3] = {{.name = "id", .name_size = 2, .is_key = 1, .encoding = LC_ENCODING_INT},
                               {.name = "a", .name_size = 1, .encoding = LC_ENCODING_INT},
                               {.name = "b", .name_size = 1, .encoding = LC_ENCODING_INT}};
  for (int c = 0; c < 3; c++)
    columns[c].type = LC_TYPE_INT64;
  const int32_t carried[] = {0, 2};
  lc_envelope_plan plan = every_plan();
  plan.columns = columns;
  plan.column_count = 3;
  plan.carried = carried;
  plan.carried_count = 2;
  static const char *const others[] = {CREATE("{\"id\":3}"), CREATE("{\"id\":3,\"a\":1,\"b\":1}"),
                                       CREATE("{\"b\":1,\"id\":3}"), CREATE("{\"id\":3,\"a\":1}"), CREATE("{}")};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    const char *values[] = {CREATE("{\"id\":1,\"b\":1}"), CREATE("{\"id\":2,\"x\":{},\"b\":1}"), others[i]};
    messages in;
    messages_make(&in, values, NULL, 3);
    lc_decoded made;
    CHECK_EQUAL(LC_OK, decode(&plan, &in, &made));
    CHECK_EQUAL(LC_STOP_COLUMNS, made.stop);
    CHECK_EQUAL(2, made.consumed);
    CHECK_EQUAL(2, made.row_count);
    lc_decoded_free(&made);
    free(in.block);
  }
  const int32_t wrong[] = {3};
  plan.carried = wrong;
  plan.carried_count = 1;
  messages in;
  messages_make(&in, others, NULL, 1);
  lc_decoded made;
  CHECK_EQUAL(LC_INVALID, decode(&plan, &in, &made));
  free(in.block);
}

/* Every allocation of a call that uses all buffers fails once, and from then on. */
static lc_code whole_call(void *context) {
  const char *values[] = {EVERY_ROW,
                          CREATE("{\"id\":1,\"x\":{}}"),
                          CREATE("{\"\\u0069d\":2}"),
                          "{\"op\":\"d\"}",
                          "{\"ts_ms\":1}",
                          "[",
                          "{\"op\":\"u\",\"before\":{\"id\":1},\"after\":{\"id\":2}}",
                          CREATE("{\"id\":1,\"y\\u0041\":0},\"transaction\":{\"id\":\"5:6\"}")};
  const char *keys[] = {"", "", "", "{\"id\":9}", "", "", "", ""};
  messages *in = context;
  messages_make(in, values, keys, 8);
  lc_envelope_plan plan = every_plan();
  lc_decoded made;
  lc_code code = decode(&plan, in, &made);
  if (code == LC_OK) {
    CHECK_EQUAL(7, made.row_count);
    CHECK_EQUAL(1, made.error_count);
    lc_decoded_free(&made);
  }
  plan.stop_on_unknown = plan.transactions = 1;
  if (code == LC_OK) code = decode(&plan, in, &made);
  if (code == LC_OK) {
    CHECK_EQUAL(LC_STOP_UNKNOWN, made.stop);
    CHECK(made.unknown_size == 1 && made.unknown[0] == 'x');
    lc_decoded_free(&made);
  }
  free(in->block);
  return code;
}

int main(void) {
  test_every_encoding();
  test_truncated();
  test_faults_and_neighbours();
  test_unsent_arrays();
  test_refusals();
  test_carried();
  test_transactions();
  messages in;
  check_allocation_failures(whole_call, &in);
  return check_result("envelope");
}

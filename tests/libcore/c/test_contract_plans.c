/* What the decoders' plans may say: every kind with every type is accepted or refused as the headers list it, and each
 * bound of a plan is held by a sentence, before a byte is read. */
#include "libcore/avro.h"
#include "libcore/delimited.h"
#include "libcore/fixed_width.h"
#include "refused.h"

enum { TYPES = LC_TYPE_FIXED + 2 }; /* with one type below and one above those that exist */

/* ---- envelope ---- */

static check_batch messages;

static lc_code envelope(const lc_envelope_plan *plan) {
  lc_envelope_state state = {.redelivered = -1};
  lc_decoded out;
  lc_code code = lc_envelope_decode(plan, &messages.array, 0, &state, 0, &out, &refused_error);
  if (code == LC_OK) lc_decoded_free(&out);
  return code;
}

static void test_envelope(void) {
  lc_wire_column item = {.encoding = LC_ENCODING_INT, .type = LC_TYPE_INT64};
  lc_wire_column column = {.name = "a", .name_size = 1, .precision = 9, .scale = 6, .item = &item};
  lc_envelope_plan plan = {
      .columns = &column, .column_count = 1, .placeholder = (const uint8_t *)"?", .placeholder_size = 1};
  int accepted = 0;
  for (column.encoding = 0; column.encoding <= LC_ENCODING_NAMED_TIMESTAMP + 1; column.encoding++)
    for (column.type = 0; column.type < TYPES; column.type++)
      accepted += envelope(&plan) == LC_OK;
  /* INT 3, FLOAT 2, the three forms of a decimal 2 each, all others 1 */
  CHECK_EQUAL(26 + 2 + 1 + 3, accepted);
  column.encoding = LC_ENCODING_TIME_MS;
  column.type = LC_TYPE_TIME64;
  REFUSED_WITH(column.scale, 3, envelope(&plan));
  column.encoding = LC_ENCODING_BITS;
  column.type = LC_TYPE_UTF8;
  REFUSED_WITH(column.bit_length, -1, envelope(&plan));
  REFUSED_WITH(column.bit_length, (1 << 27) + 1, envelope(&plan));
  column.encoding = LC_ENCODING_ARRAY;
  REFUSED_WITH(column.item, NULL, envelope(&plan));
  REFUSED_WITH(item.encoding, LC_ENCODING_ARRAY, envelope(&plan));
  CHECK_EQUAL(LC_OK, envelope(&plan));
  REFUSED(envelope(NULL));
  REFUSED_WITH(plan.columns, NULL, envelope(&plan));
  REFUSED_WITH(plan.column_count, 0, envelope(&plan));
  REFUSED_WITH(plan.column_count, 65001, envelope(&plan));
  REFUSED_WITH(plan.position, -1, envelope(&plan));
  REFUSED_WITH(plan.position, LC_POSITION_SQLSERVER + 1, envelope(&plan));
  REFUSED_WITH(plan.placeholder, NULL, envelope(&plan));
  REFUSED_WITH(plan.placeholder_size, 0, envelope(&plan));
  REFUSED_WITH(plan.placeholder_size, 1001, envelope(&plan));
  REFUSED_WITH(column.name, NULL, envelope(&plan));
  REFUSED_WITH(column.name_size, -1, envelope(&plan));
  static const int32_t below[] = {-1}, above[] = {1};
  plan.carried_count = 1;
  REFUSED_WITH(plan.carried, below, envelope(&plan));
  REFUSED_WITH(plan.carried, above, envelope(&plan));
  REFUSED_WITH(plan.schema, (const uint8_t *)"{}", envelope(&plan)); /* of no bytes */
  plan.schema_size = 2;
  REFUSED_WITH(plan.schema, (const uint8_t *)" 1", envelope(&plan));
  REFUSED_WITH(plan.schema, (const uint8_t *)"{1", envelope(&plan));
  CHECK_EQUAL(LC_OK, envelope(&plan));
}

/* ---- avro ---- */

static lc_code avro(const lc_avro_plan *plan) {
  lc_envelope_state state = {.redelivered = -1};
  lc_decoded out;
  lc_code code = lc_avro_decode(plan, &messages.array, 0, &state, 0, &out, &refused_error);
  if (code == LC_OK) lc_decoded_free(&out);
  return code;
}

static void test_avro(void) {
  lc_wire_column column = {.name = "a", .name_size = 1, .encoding = LC_ENCODING_INT, .type = LC_TYPE_INT64};
  lc_avro_node nodes[2] = {{LC_AVRO_RECORD, 1, 0}, {LC_AVRO_LONG, 0, 0}};
  lc_avro_part parts[1] = {{1, 0, "a", 1}};
  lc_avro_plan plan = {.rows = {.columns = &column,
                                .column_count = 1,
                                .placeholder = (const uint8_t *)"?",
                                .placeholder_size = 1},
                       .value = {nodes, parts, 2, 1, 0, 7},
                       .framing = 4,
                       .mode = LC_AVRO_FLAT};
  CHECK_EQUAL(LC_OK, avro(&plan));
  REFUSED(avro(NULL));
  REFUSED_WITH(plan.framing, 5, avro(&plan));
  REFUSED_WITH(plan.mode, 2, avro(&plan));
  REFUSED_WITH(plan.rows.stop_on_unknown, 1, avro(&plan));
  column.type = LC_TYPE_BINARY;
  REFUSED_WITH(column.encoding, LC_ENCODING_HEX, avro(&plan));
  column.type = LC_TYPE_INT64;
  REFUSED_WITH(plan.value.root, 2, avro(&plan));
  REFUSED_WITH(plan.value.root, -1, avro(&plan));
  REFUSED_WITH(plan.value.node_count, 0, avro(&plan));
  REFUSED_WITH(nodes[0].kind, 0, avro(&plan));
  REFUSED_WITH(nodes[0].kind, LC_AVRO_RECORD + 1, avro(&plan));
  REFUSED_WITH(nodes[0].count, 2, avro(&plan));
  REFUSED_WITH(nodes[0].count, -1, avro(&plan));
  REFUSED_WITH(nodes[0].first, -1, avro(&plan));
  REFUSED_WITH(parts[0].node, 2, avro(&plan));
  REFUSED_WITH(parts[0].node, -1, avro(&plan));
  plan.key = (lc_avro_schema){nodes, parts, 2, 1, 5, 8};
  REFUSED(avro(&plan));
}

/* ---- text files ---- */

static lc_code delimited_level(const lc_delimited_plan *plan, int64_t rows_max, int64_t size, int32_t level) {
  lc_text_state state = {.line = 1};
  struct ArrowArray out;
  lc_text_read read;
  lc_code code = lc_delimited_read(plan, NULL, size, 1, rows_max, &state, level, &out, &read, &refused_error);
  if (code == LC_OK) {
    out.release(&out);
    lc_text_read_free(&read);
  }
  return code;
}
static lc_code delimited(const lc_delimited_plan *plan) { return delimited_level(plan, 1, 0, 0); }

static void test_text_columns(lc_text_column *column, const lc_delimited_plan *plan) {
  int accepted = 0;
  for (column->kind = 0; column->kind <= LC_TEXT_KIND_TIMESTAMPTZ + 1; column->kind++)
    for (column->layout.type = 0; column->layout.type < TYPES; column->layout.type++)
      accepted += delimited(plan) == LC_OK;
  CHECK_EQUAL(12 + 2 + 1 + 1, accepted); /* INT 3, FLOAT 2, DECIMAL 2 types, all others 1 */
  column->kind = LC_TEXT_KIND_TIME;
  column->layout.type = LC_TYPE_TIME64;
  REFUSED_WITH(column->digits, 3, delimited(plan));
  static const uint8_t unknown[] = "%Q", literal[] = {0, ':'}, percent[] = {'x', 'y'};
  column->pattern_size = 2;
  REFUSED_WITH(column->pattern, unknown, delimited(plan));
  REFUSED_WITH(column->pattern, percent, delimited(plan));
  REFUSED_WITH(column->pattern, literal, delimited(plan)); /* no time in it */
  REFUSED_WITH(column->pattern_size, 1, delimited(plan));
  REFUSED_WITH(column->pattern_size, -2, delimited(plan));
  column->pattern_size = 0;
  column->kind = LC_TEXT_KIND_TEXT;
  column->layout.type = LC_TYPE_UTF8;
  static const uint8_t words[] = {1, 0, 'x', 9, 0};
  column->null_words = column->true_words = column->false_words = words;
  for (int32_t size = -1; size <= 5; size++) {
    bool whole = size == 0 || size == 3; /* no word, or one; else a piece of one, or one that is longer than the list */
    column->null_size = size;
    CHECK_EQUAL(whole ? LC_OK : LC_INVALID, delimited(plan));
    column->null_size = 0;
    column->true_size = size;
    CHECK_EQUAL(whole ? LC_OK : LC_INVALID, delimited(plan));
    column->true_size = 0;
    column->false_size = size;
    CHECK_EQUAL(whole ? LC_OK : LC_INVALID, delimited(plan));
    column->false_size = 0;
  }
  REFUSED_WITH(column->thousands_size, -1, delimited(plan));
  REFUSED_WITH(column->implied, -1, delimited(plan));
  REFUSED_WITH(column->implied, 77, delimited(plan));
}

static void test_delimited(void) {
  lc_text_column column = {
      .layout = {.type = LC_TYPE_UTF8, .precision = 9}, .kind = LC_TEXT_KIND_TEXT, .digits = 6, .decimal = '.'};
  lc_delimited_plan plan = {.columns = &column,
                            .column_count = 1,
                            .fields = 2,
                            .record_bytes_max = 100,
                            .delimiter = ',',
                            .quote = '"',
                            .escape = '\\',
                            .comment = '#'};
  test_text_columns(&column, &plan);
  CHECK_EQUAL(LC_OK, delimited(&plan));
  REFUSED(delimited(NULL));
  REFUSED(delimited_level(&plan, 0, 0, 0));
  REFUSED(delimited_level(&plan, 1, -1, 0));
  REFUSED(delimited_level(&plan, 1, 1, 0)); /* a size without bytes */
  REFUSED(delimited_level(&plan, 1, 0, 9));
  int32_t *special[] = {&plan.delimiter, &plan.quote, &plan.escape, &plan.comment};
  for (int i = 0; i < 4; i++) {
    static const int32_t wrong[] = {-1, 128, '\n', '\r'};
    for (int k = 0; k < 4; k++)
      REFUSED_WITH(*special[i], wrong[k], delimited(&plan));
    REFUSED_WITH(*special[i], *special[(i + 1) % 4], delimited(&plan));
    if (i == 0) REFUSED_WITH(*special[i], 0, delimited(&plan));
  }
  REFUSED_WITH(column.field, -1, delimited(&plan));
  REFUSED_WITH(column.field, 2, delimited(&plan));
  REFUSED_WITH(column.field, 1 << 20, delimited(&plan));
  REFUSED_WITH(plan.fields, -1, delimited(&plan));
  REFUSED_WITH(plan.fields, 1 << 20, delimited(&plan));
  REFUSED_WITH(plan.record_bytes_max, 0, delimited(&plan));
  REFUSED_WITH(plan.record_bytes_max, 1 << 30, delimited(&plan));
}

static lc_code fixed_level(const lc_fixed_plan *plan, int64_t size, int32_t level) {
  lc_text_state state = {.line = 1};
  struct ArrowArray out;
  lc_text_read read;
  lc_code code = lc_fixed_read(plan, NULL, size, 1, 1, &state, level, &out, &read, &refused_error);
  if (code == LC_OK) {
    out.release(&out);
    lc_text_read_free(&read);
  }
  return code;
}
static lc_code fixed(const lc_fixed_plan *plan) { return fixed_level(plan, 0, 0); }

static void test_fixed(void) {
  lc_text_column column = {.layout = {.type = LC_TYPE_UTF8}, .kind = LC_TEXT_KIND_TEXT, .offset = 1, .length = 4};
  lc_fixed_kind kind = {.columns = &column, .column_count = 1, .width = 5};
  lc_fixed_plan plan = {.kinds = &kind, .kind_count = 1, .record_bytes_max = 100};
  CHECK_EQUAL(LC_OK, fixed(&plan));
  REFUSED(fixed(NULL));
  REFUSED(fixed_level(&plan, -1, 0));
  REFUSED(fixed_level(&plan, 1, 0));
  REFUSED(fixed_level(&plan, 0, 9));
  REFUSED_WITH(plan.kind_count, 0, fixed(&plan));
  REFUSED_WITH(plan.kind_count, (1 << 15) + 1, fixed(&plan));
  REFUSED_WITH(plan.record_bytes, -1, fixed(&plan));
  REFUSED_WITH(plan.record_bytes, 1 << 30, fixed(&plan));
  REFUSED_WITH(plan.record_bytes_max, 0, fixed(&plan));
  REFUSED_WITH(plan.record_bytes_max, 1 << 30, fixed(&plan));
  REFUSED_WITH(kind.width, -1, fixed(&plan));
  REFUSED_WITH(kind.width, 1 << 30, fixed(&plan));
  REFUSED_WITH(kind.marker_size, -1, fixed(&plan));
  REFUSED_WITH(kind.column_count, -1, fixed(&plan));
  REFUSED_WITH(column.offset, -1, fixed(&plan));
  REFUSED_WITH(column.offset, 6, fixed(&plan));
  REFUSED_WITH(column.length, -1, fixed(&plan));
  REFUSED_WITH(column.length, 5, fixed(&plan));
  REFUSED_WITH(column.kind, 0, fixed(&plan));
}

int main(void) {
  static const int32_t offsets[1];
  static const int64_t numbers[1];
  check_batch_start(&messages, 0);
  check_batch_add(&messages, (lc_column){.type = LC_TYPE_BINARY}, NULL, offsets, NULL);
  check_batch_add(&messages, (lc_column){.type = LC_TYPE_BINARY}, NULL, offsets, NULL);
  check_batch_add(&messages, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  check_batch_add(&messages, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  test_envelope();
  test_avro();
  test_delimited();
  test_fixed();
  return check_result("contract_plans");
}

/* Allocations that whole calls seldom make: the first buffer of a rare value.  Each fails once, and from then on. */
#include "libcore/avro.h"
#include "libcore/delimited.h"
#include "libcore/join.h"
#include "libcore/table.h"
#include "refused.h"

static const int64_t numbers[2] = {1, 2};

/* One message through the envelope decoder or, with an avro plan, the other one. */
typedef struct message {
  const char *value;
  int32_t size, rows;
  lc_envelope_plan *plan;
  lc_avro_plan *avro;
} message;

static lc_code decode(void *context) {
  const message *in = context;
  const int32_t offsets[2] = {0, in->size}, none[2] = {0, 0};
  check_batch batch;
  check_batch_start(&batch, 1);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, none, "");
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, offsets, in->value);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_INT64}, NULL, numbers, NULL);
  lc_envelope_state state = {.redelivered = -1};
  lc_decoded out;
  lc_code code = in->avro != NULL ? lc_avro_decode(in->avro, &batch.array, 0, &state, 0, &out, &refused_error)
                                  : lc_envelope_decode(in->plan, &batch.array, 0, &state, 0, &out, &refused_error);
  if (code == LC_OK) {
    CHECK_EQUAL(in->rows, out.row_count);
    lc_decoded_free(&out);
  }
  return code;
}

static lc_envelope_plan plan_of(const lc_wire_column *column) {
  return (lc_envelope_plan){
      .columns = column, .column_count = 1, .placeholder = (const uint8_t *)"?", .placeholder_size = 1};
}

/* An escaped name is unescaped before it is looked up; a transaction's id is a text of its own. */
static void test_envelope(void) {
  lc_wire_column column = {.name = "id", .name_size = 2, .encoding = LC_ENCODING_INT, .type = LC_TYPE_INT64};
  lc_envelope_plan plan = plan_of(&column);
#define MESSAGE(text) {text, sizeof(text) - 1, 1, &plan, NULL}
  message escaped = MESSAGE("{\"\\u006fp\":\"c\",\"after\":{\"\\u0069d\":1}}");
  check_allocation_failures(decode, &escaped);
  plan.transactions = 1;
  message within = MESSAGE("{\"op\":\"c\",\"after\":{\"id\":1},\"transaction\":{\"id\":\"5:6\"}}");
  check_allocation_failures(decode, &within);
  lc_wire_column bytes = {.name = "id", .name_size = 2, .encoding = LC_ENCODING_HEX, .type = LC_TYPE_BINARY};
  plan = plan_of(&bytes);
  message hexadecimal = MESSAGE("{\"op\":\"d\",\"before\":{\"id\":\"00fF\"}}");
  check_allocation_failures(decode, &hexadecimal);
#undef MESSAGE
}

/* Bits become text, which no other column of the message has begun. */
static void test_avro(void) {
  lc_wire_column column = {
      .name = "b", .name_size = 1, .encoding = LC_ENCODING_BITS, .type = LC_TYPE_UTF8, .bit_length = 5};
  const lc_avro_node nodes[2] = {{LC_AVRO_RECORD, 1, 0}, {LC_AVRO_BYTES, 0, 0}};
  const lc_avro_part parts[1] = {{1, 0, "b", 1}};
  lc_avro_plan plan = {.rows = plan_of(&column), .value = {nodes, parts, 2, 1, 0, 7}, .mode = LC_AVRO_FLAT};
  message bits = {"\x02\x15", 2, 1, NULL, &plan};
  check_allocation_failures(decode, &bits);
}

/* Text in a code page takes up to three times its bytes. */
static lc_code read_latin(void *context) {
  static uint16_t points[256];
  for (int i = 0; i < 256; i++)
    points[i] = (uint16_t)i;
  lc_text_column column = {.layout = {.type = LC_TYPE_UTF8}, .kind = LC_TEXT_KIND_TEXT};
  lc_delimited_plan plan = {
      .columns = &column, .column_count = 1, .record_bytes_max = 100, .delimiter = ',', .encoding = points};
  lc_text_state state = {.line = 1};
  struct ArrowArray out;
  lc_text_read read;
  lc_code code =
      lc_delimited_read(&plan, (const uint8_t *)"Gr\xf6\xdf\x65\n", 6, 1, 5, &state, 0, &out, &read, &refused_error);
  if (code != LC_OK) return code;
  CHECK_EQUAL(1, out.length);
  CHECK(memcmp(out.children[0]->buffers[2], "Gr\xc3\xb6\xc3\x9f\x65", 7) == 0);
  out.release(&out);
  lc_text_read_free(&read);
  return LC_OK;
}

static void keep(struct ArrowArray *array) { array->release = NULL; }

/* Facts that lack a value are grouped by their place before they are put. */
static lc_code put_facts(void *context) {
  static const int32_t places[] = {0, 1, 2};
  static const lc_column fact[] = {{.type = LC_TYPE_INT64}, {.type = LC_TYPE_INT64}}, *partner = fact;
  static const lc_column unset = {.type = LC_TYPE_FIXED, .width = 1};
  static const int8_t ops[2] = {1, 1};
  static const uint8_t positions[64], lacks[2] = {0, 2};
  const lc_column held[] = {fact[0], fact[1], fact[0], unset}, dimension[] = {fact[0], fact[1], unset};
  lc_join_plan plan = {.fact = fact, .fact_count = 2, .dimension = partner, .dimension_count = 2,
                       .fact_key = places, .fact_key_count = 1, .foreign_key = places, .foreign_key_count = 1,
                       .place = places, .place_count = 1, .held = places, .held_count = 2,
                       .held_foreign_key = places, .dimension_key = places, .partner = places, .partner_count = 2,
                       .taken = places + 1, .taken_count = 1};
  lc_table *facts = NULL, *partners = NULL;
  lc_code code = lc_table_new(held, 4, places, 1, places, 1, places, 1, 1, 0, &facts, NULL);
  if (code == LC_OK) code = lc_table_new(dimension, 3, places, 1, NULL, 0, places, 1, 1, 0, &partners, NULL);
  check_batch in;
  check_batch_start(&in, 2);
  for (int c = 0; c < 2; c++)
    check_batch_add(&in, fact[0], NULL, numbers, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT8}, NULL, ops, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_FIXED, .width = 32}, NULL, positions, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_TIMESTAMP}, NULL, numbers, NULL);
  check_batch_add(&in, unset, NULL, lacks, NULL);
  in.array.release = keep;
  lc_join_results *results = NULL;
  int64_t used = 0;
  if (code == LC_OK) code = lc_join_facts(&plan, facts, partners, &in.array, 1, &results, &used, &refused_error);
  if (code == LC_OK) {
    CHECK_EQUAL(2, used);
    CHECK_EQUAL(2, lc_table_rows(facts));
    lc_join_results_free(results);
  }
  lc_table_free(facts);
  lc_table_free(partners);
  return code;
}

int main(void) {
  test_envelope();
  test_avro();
  check_allocation_failures(read_latin, NULL);
  check_allocation_failures(put_facts, NULL);
  return check_result("allocations");
}

/* What the plans of PostgreSQL's, Oracle's and SAP's decoders may say, and PostgreSQL's COPY: every kind with every
 * type is accepted or refused as the headers list it, and each bound of a plan is held by a sentence. */
#include "libcore/pgcopy.h"
#include "libcore/pgoutput.h"
#include "libcore/redo.h"
#include "libcore/sapfmt.h"
#include "refused.h"

enum { TYPES = LC_TYPE_FIXED + 2 }; /* with one type below and one above those that exist */

static const int32_t no_offsets[1];
static const int64_t no_numbers[1];

/* ---- pgoutput ---- */

static lc_code pgoutput_from(const lc_pgoutput_plan *plan, int64_t start, int32_t level) {
  check_batch in;
  check_batch_start(&in, 0);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_BINARY}, NULL, no_offsets, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT64}, NULL, no_numbers, NULL);
  lc_pgoutput_state state = {0};
  int64_t changes[2] = {0};
  lc_pgoutput_decoded out;
  lc_code code = lc_pgoutput_decode(plan, &in.array, start, &state, changes, level, &out, &refused_error);
  if (code == LC_OK) lc_pgoutput_free(&out);
  return code;
}
static lc_code pgoutput(const lc_pgoutput_plan *plan) { return pgoutput_from(plan, 0, 0); }

static void test_pgoutput(void) {
  lc_pgoutput_wire wire[2] = {{.column = 0}, {.kind = LC_PGOUTPUT_INT, .column = -1}};
  lc_pgoutput_column column = {.precision = 9, .scale = 2};
  lc_pgoutput_relation relation = {.oid = 1, .wire = wire, .columns = &column, .wire_count = 2, .column_count = 1};
  lc_pgoutput_plan plan = {.relations = &relation, .relation_count = 1};
  int accepted = 0;
  for (wire[0].kind = 0; wire[0].kind <= LC_PGOUTPUT_OTHER + 1; wire[0].kind++)
    for (column.type = 0; column.type < TYPES; column.type++)
      accepted += pgoutput(&plan) == LC_OK;
  CHECK_EQUAL(17 + 2 + 1 + 2, accepted); /* INT 3, FLOAT 2, NUMERIC 3 types, all others 1 */
  wire[0].kind = LC_PGOUTPUT_INT;
  column.type = LC_TYPE_INT64;
  CHECK_EQUAL(LC_OK, pgoutput(&plan));
  REFUSED(pgoutput_from(&plan, -1, 0));
  REFUSED(pgoutput_from(&plan, 1, 0));
  REFUSED(pgoutput_from(&plan, 0, 9));
  REFUSED_WITH(plan.relation_count, -1, pgoutput(&plan));
  REFUSED_WITH(plan.relation_count, (1 << 24) + 1, pgoutput(&plan));
  REFUSED_WITH(plan.aborted_count, -1, pgoutput(&plan));
  REFUSED_WITH(relation.wire_count, -1, pgoutput(&plan));
  REFUSED_WITH(relation.wire_count, 65001, pgoutput(&plan));
  REFUSED_WITH(relation.column_count, -1, pgoutput(&plan));
  REFUSED_WITH(relation.column_count, 65001, pgoutput(&plan));
  REFUSED_WITH(wire[0].column, 1, pgoutput(&plan));
  REFUSED_WITH(wire[1].column, 0, pgoutput(&plan)); /* filled twice */
}

/* ---- redo ---- */

static lc_code redo(const lc_redo_plan *plan) {
  check_batch in;
  check_batch_start(&in, 0);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_BINARY}, NULL, no_offsets, NULL);
  lc_redo_result out;
  lc_code code = lc_redo_parse(plan, &in.array, &out, &refused_error);
  if (code == LC_OK) lc_redo_free(&out);
  return code;
}

static void test_redo(void) {
  lc_redo_column column = {.name = "A", .name_size = 1, .precision = 9, .scale = 6};
  lc_redo_plan plan = {.columns = &column, .column_count = 1};
  int accepted = 0;
  for (column.form = LC_REDO_PLAIN - 1; column.form <= LC_REDO_ZONED + 1; column.form++)
    for (column.type = 0; column.type < TYPES; column.type++)
      accepted += redo(&plan) == LC_OK;
  CHECK_EQUAL(13 + 5, accepted); /* PLAIN all types but INT8 and FIXED, the others one each */
  column.form = LC_REDO_PLAIN;
  column.type = LC_TYPE_TIMESTAMP;
  CHECK_EQUAL(LC_OK, redo(&plan));
  REFUSED(redo(NULL));
  REFUSED_WITH(column.scale, 3, redo(&plan));
  REFUSED_WITH(plan.columns, NULL, redo(&plan));
  REFUSED_WITH(plan.column_count, 0, redo(&plan));
  REFUSED_WITH(plan.column_count, 65001, redo(&plan));
  REFUSED_WITH(column.name, NULL, redo(&plan));
  REFUSED_WITH(column.name_size, 0, redo(&plan));
  REFUSED_WITH(column.name_size, 513, redo(&plan));
}

/* ---- SAP ---- */

static lc_code sap_level(const lc_sap_plan *plan, const lc_column *input, int32_t level) {
  check_batch in;
  check_batch_start(&in, 0);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_UTF8}, NULL, no_offsets, NULL);
  lc_sap_result out;
  lc_code code = lc_sap_read(plan, &in.array, input, level, &out, &refused_error);
  if (code == LC_OK) lc_sap_result_free(&out);
  return code;
}

static void test_sap_read(void) {
  lc_column text = {.type = LC_TYPE_UTF8}, bytes = {.type = LC_TYPE_BINARY}, number = {.type = LC_TYPE_INT64};
  lc_sap_field fields[2] = {{.length = 4, .precision = 9, .scale = 6}, {.kind = LC_SAP_SKIP, .offset = 5, .length = 3}};
  lc_sap_plan plan = {.fields = fields, .field_count = 2, .delimiter = '|', .padded = 1};
  int accepted = 0;
  for (fields[0].kind = LC_SAP_CHAR; fields[0].kind <= LC_SAP_BASE64 + 1; fields[0].kind++)
    for (fields[0].type = 0; fields[0].type < TYPES; fields[0].type++)
      accepted += sap_level(&plan, &bytes, 0) == LC_OK;
  /* NUMC 4 types, NUMBER 3, the four INT 3 each, PACKED 2, all others 1 */
  CHECK_EQUAL(19 + 3 + 2 + 4 * 2 + 1, accepted);
  fields[0].kind = LC_SAP_PACKED;
  fields[0].type = LC_TYPE_DECIMAL128;
  REFUSED(sap_level(&plan, &text, 0)); /* packed digits in text */
  REFUSED_WITH(fields[0].decimals, -1, sap_level(&plan, &bytes, 0));
  REFUSED_WITH(fields[0].decimals, 77, sap_level(&plan, &bytes, 0));
  fields[0].kind = LC_SAP_TIMS;
  fields[0].type = LC_TYPE_TIME64;
  REFUSED_WITH(fields[0].scale, 3, sap_level(&plan, &text, 0));
  fields[0].kind = LC_SAP_TIMESTAMP;
  fields[0].type = LC_TYPE_TIMESTAMP;
  REFUSED_WITH(fields[0].scale, 3, sap_level(&plan, &text, 0));
  fields[0].kind = LC_SAP_ALPHA_IN;
  fields[0].type = LC_TYPE_UTF8;
  CHECK_EQUAL(LC_OK, sap_level(&plan, &text, 0));
  REFUSED(sap_level(NULL, &text, 0));
  REFUSED(sap_level(&plan, NULL, 0));
  REFUSED(sap_level(&plan, &number, 0));
  REFUSED(sap_level(&plan, &text, 9));
  REFUSED_WITH(plan.fields, NULL, sap_level(&plan, &text, 0));
  REFUSED_WITH(plan.field_count, 0, sap_level(&plan, &text, 0));
  REFUSED_WITH(plan.field_count, 4097, sap_level(&plan, &text, 0));
  REFUSED_WITH(plan.delimiter, -1, sap_level(&plan, &text, 0));
  REFUSED_WITH(plan.delimiter, 128, sap_level(&plan, &text, 0));
  REFUSED_WITH(fields[0].offset, -1, sap_level(&plan, &text, 0));
  REFUSED_WITH(fields[0].length, -1, sap_level(&plan, &text, 0));
  REFUSED_WITH(fields[0].length, 0, sap_level(&plan, &text, 0));
  REFUSED_WITH(fields[0].length, (1 << 20) + 1, sap_level(&plan, &text, 0));
  REFUSED_WITH(fields[1].offset, 4, sap_level(&plan, &text, 0)); /* where the delimiter stands */
  fields[0].kind = LC_SAP_CHAR;
  REFUSED_WITH(fields[0].length, 0, sap_level(&plan, &text, 0)); /* to the end, but not the last */
  plan.padded = 0;
  REFUSED_WITH(plan.delimiter, 0, sap_level(&plan, &text, 0));
}

static lc_code shift(const lc_column *layouts, const lc_sap_currency *table, int32_t count, const lc_column *target) {
  check_batch in;
  check_batch_start(&in, 0);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_DECIMAL128}, NULL, no_numbers, NULL);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_UTF8}, NULL, no_offsets, NULL);
  lc_sap_result out;
  lc_code code = lc_sap_shift(&in.array, layouts, table, count, 1, target, &out, &refused_error);
  if (code == LC_OK) lc_sap_result_free(&out);
  return code;
}

static void test_sap_columns(void) {
  lc_column layouts[2] = {{.type = LC_TYPE_DECIMAL128, .precision = 9, .scale = 2}, {.type = LC_TYPE_UTF8}};
  lc_column target = {.type = LC_TYPE_DECIMAL256, .precision = 40, .scale = 2};
  static const lc_sap_currency table[1] = {{"JPY", 0}};
  CHECK_EQUAL(LC_OK, shift(layouts, table, 1, &target));
  CHECK_EQUAL(LC_OK, shift(layouts, NULL, 0, &target));
  REFUSED(shift(NULL, table, 1, &target));
  REFUSED(shift(layouts, table, 1, NULL));
  REFUSED(shift(layouts, table, -1, &target));
  REFUSED(shift(layouts, table, 1 << 20, &target));
  REFUSED(shift(layouts, NULL, 1, &target));
  REFUSED_WITH(layouts[0].type, LC_TYPE_INT64, shift(layouts, table, 1, &target));
  REFUSED_WITH(layouts[1].type, LC_TYPE_INT64, shift(layouts, table, 1, &target));
  REFUSED_WITH(target.type, LC_TYPE_INT64, shift(layouts, table, 1, &target));
  REFUSED_WITH(target.precision, 77, shift(layouts, table, 1, &target));
  check_batch in;
  check_batch_start(&in, 0);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_BINARY}, NULL, no_offsets, NULL);
  lc_sap_result out;
  static const uint32_t points[256];
  REFUSED(lc_sap_transcode(&in.array, 0, NULL, &out, &refused_error));
  REFUSED(lc_sap_transcode(&in.array, 5, NULL, &out, &refused_error));
  REFUSED(lc_sap_transcode(&in.array, 4, NULL, &out, &refused_error));
  REFUSED(lc_sap_transcode(NULL, 4, points, &out, &refused_error));
}

/* ---- COPY ---- */

static lc_code bound(check_batch *in, const lc_column *layout, int32_t kind, int64_t count) {
  return lc_pgcopy_bound(&in->array, layout, &kind, count, &refused_error) < 0 ? LC_INVALID : LC_OK;
}

static void test_pgcopy(void) {
  lc_column layout = {.precision = 9, .scale = 2, .width = 1};
  int accepted = 0;
  for (int32_t kind = 0; kind <= LC_PG_BYTES + 1; kind++)
    for (layout.type = 1; layout.type <= LC_TYPE_FIXED; layout.type++) {
      check_batch in;
      check_batch_start(&in, 0);
      check_batch_add(&in, layout, NULL, no_numbers, NULL);
      accepted += bound(&in, &layout, kind, 1) == LC_OK;
    }
  CHECK_EQUAL(14 + 2 + 1 + 1 + 1, accepted); /* INT 3, FLOAT, DECIMAL and BYTES 2 types, all others 1 */
  static const int8_t values[1] = {7};
  check_batch in;
  check_batch_start(&in, 1);
  check_batch_add(&in, (lc_column){.type = LC_TYPE_INT8}, NULL, values, NULL);
  uint8_t out[64];
  lc_pg_result result;
  int32_t kind = LC_PG_CHAR, other = LC_PG_BOOL;
  int64_t size = lc_pgcopy_bound(&in.array, in.columns, &kind, 1, NULL);
  CHECK(size > 0 && size <= (int64_t)sizeof out);
  CHECK_EQUAL(LC_OK, lc_pgcopy(&in.array, in.columns, &kind, 1, 1, out, size, NULL, 0, &result, NULL));
  CHECK_EQUAL(LC_CAPACITY, lc_pgcopy(&in.array, in.columns, &kind, 1, 1, out, size - 1, NULL, 0, &result, NULL));
  REFUSED(lc_pgcopy(&in.array, in.columns, &other, 1, 1, out, size, NULL, 0, &result, &refused_error));
  static struct ArrowArray wide_child;
  static struct ArrowArray *wide_children[1601];
  static lc_column wide_columns[1601];
  static int32_t wide_kinds[1601];
  static const void *buffers[2];
  wide_child = (struct ArrowArray){.n_buffers = 2, .buffers = buffers};
  for (int i = 0; i < 1601; i++) {
    wide_children[i] = &wide_child;
    wide_columns[i].type = LC_TYPE_BOOL;
    wide_kinds[i] = LC_PG_BOOL;
  }
  struct ArrowArray wide = {.n_buffers = 1, .buffers = buffers, .n_children = 1601, .children = wide_children};
  CHECK_EQUAL(-1, lc_pgcopy_bound(&wide, wide_columns, wide_kinds, 1601, &refused_error));
  wide.n_children = 1600;
  CHECK(lc_pgcopy_bound(&wide, wide_columns, wide_kinds, 1600, &refused_error) > 0);
}

int main(void) {
  test_pgoutput();
  test_redo();
  test_sap_read();
  test_sap_columns();
  test_pgcopy();
  return check_result("contract_sources");
}

/* redo: statements to rows, pieces, errors, forgotten apostrophes; allocation failures are clean. */
#include "libcore/redo.h"

#include "check.h"
#include "redo_plan.h"

#define STATEMENTS 4

typedef struct input {
  check_batch batch;
  int32_t offsets[STATEMENTS + 1];
  int8_t csf[STATEMENTS];
  char text[4096];
} input;

static void make(input *in, int count, const char *const *statements, const int8_t *csf) {
  *in = (input){0};
  size_t size = 0;
  for (int i = 0; i < count; i++) {
    memcpy(in->text + size, statements[i], strlen(statements[i]));
    size += strlen(statements[i]);
    in->offsets[i + 1] = (int32_t)size;
    if (csf) in->csf[i] = csf[i];
  }
  check_batch_start(&in->batch, count);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, in->text);
  if (csf) check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT8}, NULL, in->csf, NULL);
}

static lc_redo_result parse(int count, const char *const *statements, const int8_t *csf) {
  input in;
  make(&in, count, statements, csf);
  lc_redo_plan plan = redo_plan();
  lc_redo_result out = {0};
  lc_error error;
  CHECK_EQUAL(LC_OK, lc_redo_parse(&plan, &in.batch.array, &out, &error));
  return out;
}

static int64_t long_at(const lc_redo_result *out, int c, int64_t row) {
  return ((const int64_t *)out->batch.children[c]->buffers[1])[row];
}
static bool text_is(const lc_redo_result *out, int c, int64_t row, const char *expected) {
  const int32_t *offsets = out->batch.children[c]->buffers[1];
  size_t size = (size_t)(offsets[row + 1] - offsets[row]);
  return size == strlen(expected) &&
         memcmp((const char *)out->batch.children[c]->buffers[2] + offsets[row], expected, size) == 0;
}
static int op_at(const lc_redo_result *out, int64_t row) {
  return ((const int8_t *)out->batch.children[REDO_COLUMN_COUNT]->buffers[1])[row];
}

static void statements_become_rows(void) {
  const char *statements[] = {
      "insert into \"S\".\"T\"(\"ID\",\"S\",\"D\") values ('1','O''Neil','-.05');",
      "update \"S\".\"T\" set \"S\" = UNISTR('\\D83D\\DE00') where \"ID\" = '1' and \"D\" = '2.5';",
      "update \"S\".\"T\" set \"ID\" = '2' where \"ID\" = '1';", "delete from \"S\".\"T\" where \"ID\" = 2"};
  lc_redo_result out = parse(4, statements, NULL);
  CHECK_EQUAL(0, out.error_count);
  CHECK_EQUAL(5, out.batch.length);
  CHECK_EQUAL(4, out.consumed);
  CHECK(op_at(&out, 0) == 6 && op_at(&out, 1) == 1 && op_at(&out, 2) == 2 && op_at(&out, 3) == 1);
  CHECK(long_at(&out, 0, 2) == 1 && long_at(&out, 0, 3) == 2 && long_at(&out, 0, 4) == 2);
  CHECK(text_is(&out, 1, 0, "O'Neil"));
  CHECK(text_is(&out, 1, 1, "\xF0\x9F\x98\x80"));
  CHECK_EQUAL(-5, long_at(&out, 2, 0)); /* decimal(10,2): the low word */
  CHECK_EQUAL(1, out.has_unset);
  lc_redo_free(&out);
}

static void pieces_are_joined(void) {
  const char *pieces[] = {"insert into T(ID,S) val", "ues (1,'a", "b');", "delete fr"};
  lc_redo_result out = parse(4, pieces, (int8_t[]){1, 1, 0, 1});
  CHECK_EQUAL(1, out.batch.length);
  CHECK_EQUAL(3, out.consumed);
  CHECK(text_is(&out, 1, 0, "ab"));
  lc_redo_free(&out);
}

static void bad_statements_leave_their_neighbours(void) {
  const char *statements[] = {"insert into T(ID,S) values (1,'a')", "insert into T(ID,S) values ('x','lost text')",
                              "rollback", "insert into T(ID,S) values (2,'it's')"};
  lc_redo_result out = parse(4, statements, NULL);
  CHECK_EQUAL(2, out.batch.length);
  CHECK(text_is(&out, 1, 0, "a") && text_is(&out, 1, 1, "it's"));
  CHECK_EQUAL(2, out.error_count);
  if (out.error_count == 2) {
    CHECK(out.errors[0].row == 1 && out.errors[0].code == LC_ROW_TYPE && out.errors[0].position == 28);
    CHECK(out.errors[1].row == 2 && out.errors[1].code == LC_REDO_STATEMENT && out.errors[1].column == -1);
  }
  lc_redo_free(&out);
}

static void wrong_plans_are_refused(void) {
  input in;
  make(&in, 1, (const char *[]){"commit"}, NULL);
  lc_redo_plan plan = redo_plan();
  lc_redo_column columns[2] = {REDO_COLUMN[0], REDO_COLUMN[0]};
  lc_redo_result out;
  lc_error error = {0};
  plan.columns = columns;
  plan.column_count = 2;
  CHECK_EQUAL(LC_INVALID, lc_redo_parse(&plan, &in.batch.array, &out, &error));
  columns[1].name = "X";
  columns[1].name_size = 1;
  columns[1].form = LC_REDO_ZONED; /* of an integer */
  CHECK_EQUAL(LC_INVALID, lc_redo_parse(&plan, &in.batch.array, &out, &error));
  plan.column_count = 0;
  CHECK_EQUAL(LC_INVALID, lc_redo_parse(&plan, &in.batch.array, &out, &error));
  CHECK(error.message[0] != 0);
}

static lc_code parse_and_free(void *context) {
  input *in = context;
  lc_redo_plan plan = redo_plan();
  lc_redo_result out = {0};
  lc_code code = lc_redo_parse(&plan, &in->batch.array, &out, NULL);
  if (code == LC_OK) lc_redo_free(&out);
  return code;
}

int main(void) {
  statements_become_rows();
  pieces_are_joined();
  bad_statements_leave_their_neighbours();
  wrong_plans_are_refused();
  input in;
  make(&in, 4,
       (const char *[]){"insert into T(ID,S,R,N,I) values (1,UNISTR('a')||'b',HEXTORAW('00ff'),'1E2',"
                        "TO_YMINTERVAL('+01-06'))",
                        "commit", "update T set ID = 2 where ID = 1 and S = 'x'", "insert into T(ID) values ('x')"},
       NULL);
  check_allocation_failures(parse_and_free, &in);
  return check_result("redo");
}

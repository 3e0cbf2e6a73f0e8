/* Delimited and fixed-width records: rows, errors with their places, refused plans, and every allocation that fails. */
#include "libcore/delimited.h"

#include "check.h"
#include "delimited_plan.h"

static const char GOOD[] =
    "\"a;\"\"b\"\"\";1.234-;1,5;X;00ff;aGk=;-12,345;007;29.feb.2024;20240229120001.5+02;2024-02-29 12:00:01\r\n"
    ";;;;;;;;;;\r\nx;1;;;0;;;;;;\n\"open;1;;;;;;;;;\n"
    "NULL;12345678901234567890123,0;1e3;-;;;1e2;;1.Jan.2024;;infinity\n";

typedef struct run {
  lc_delimited_plan plan;
  lc_fixed_plan fixed;
  const char *text;
  size_t size;
  struct ArrowArray out[2];
  lc_text_read read;
} run;

static lc_code read_delimited(void *context) {
  run *r = context;
  lc_text_state state = {.line = 1};
  lc_error error;
  return lc_delimited_read(&r->plan, (const uint8_t *)r->text, (int64_t)r->size, 1, 100, &state, 0, r->out, &r->read,
                           &error);
}

static lc_code read_fixed(void *context) {
  run *r = context;
  lc_text_state state = {.line = 1};
  lc_error error;
  return lc_fixed_read(&r->fixed, (const uint8_t *)r->text, (int64_t)r->size, 1, 100, &state, 0, r->out, &r->read,
                       &error);
}

static void release(run *r, int kinds) {
  for (int k = 0; k < kinds; k++)
    r->out[k].release(&r->out[k]);
  lc_text_read_free(&r->read);
}

static lc_code delimited_and_release(void *context) {
  lc_code code = read_delimited(context);
  if (code == LC_OK) release(context, 1);
  return code;
}

static lc_code fixed_and_release(void *context) {
  lc_code code = read_fixed(context);
  if (code == LC_OK) release(context, 2);
  return code;
}

static void check_rows(void) {
  lc_text_column columns[PLAN_COLUMNS];
  plan_columns(columns, 0);
  run r = {.plan = plan_delimited(columns), .text = GOOD, .size = sizeof GOOD - 1};
  CHECK_EQUAL(LC_OK, read_delimited(&r));
  CHECK_EQUAL(2, r.out[0].length);
  CHECK_EQUAL(sizeof GOOD - 1, r.read.consumed);
  CHECK_EQUAL(6, r.read.state.line);
  const int64_t *numbers = r.out[0].children[1]->buffers[1], *lines = r.out[0].children[PLAN_COLUMNS]->buffers[1];
  CHECK_EQUAL(-1234, numbers[0]);
  CHECK_EQUAL(1, lines[0]);
  CHECK_EQUAL(2, lines[1]);
  CHECK(memcmp(r.out[0].children[0]->buffers[2], "a;\"b\"", 5) == 0);
  CHECK_EQUAL(2, r.out[0].children[1]->length);
  CHECK_EQUAL(1, r.out[0].children[1]->null_count);
  CHECK_EQUAL(3, r.read.error_count);
  const int32_t codes[3] = {LC_TEXT_TYPE, LC_TEXT_QUOTE, LC_TEXT_RANGE}, places[3] = {6, 0, 5};
  for (int i = 0; i < 3; i++) {
    CHECK_EQUAL(codes[i], r.read.errors[i].code);
    CHECK_EQUAL(places[i], r.read.errors[i].position);
    CHECK_EQUAL(3 + i, r.read.errors[i].line);
  }
  release(&r, 1);
  check_allocation_failures(delimited_and_release, &r);
}

static void check_fixed(void) {
  lc_text_column columns[PLAN_COLUMNS];
  plan_columns(columns, 3);
  columns[0].offset = 1;
  columns[0].length = 2;
  lc_fixed_kind kinds[2] = {{columns, 1, (const uint8_t *)"H", 1, 3}, {columns, 2, (const uint8_t *)"I", 1, 6}};
  const char text[] = "Hab\nIcd 12\nXyz\nIcd\n";
  run r = {.fixed = {.kinds = kinds, .kind_count = 2, .record_bytes_max = 100, .characters = 1},
           .text = text,
           .size = sizeof text - 1};
  CHECK_EQUAL(LC_OK, read_fixed(&r));
  CHECK_EQUAL(1, r.out[0].length);
  CHECK_EQUAL(1, r.out[1].length);
  CHECK_EQUAL(2, r.read.error_count);
  CHECK_EQUAL(LC_TEXT_KIND, r.read.errors[0].code);
  CHECK_EQUAL(LC_TEXT_FIELDS, r.read.errors[1].code);
  release(&r, 2);
  check_allocation_failures(fixed_and_release, &r);
  kinds[0].width = 2; /* the column ends behind it */
  CHECK_EQUAL(LC_INVALID, read_fixed(&r));
  r.fixed.kind_count = 0;
  CHECK_EQUAL(LC_INVALID, read_fixed(&r));
}

static void check_refused(void) {
  lc_text_column columns[PLAN_COLUMNS];
  plan_columns(columns, 0);
  run r = {.plan = plan_delimited(columns), .text = GOOD, .size = sizeof GOOD - 1};
  r.plan.escape = ';';
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
  r.plan.escape = '\n';
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
  r.plan.escape = 0;
  r.plan.record_bytes_max = 0;
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
  r.plan.record_bytes_max = 1;
  columns[3].field = PLAN_COLUMNS;
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
  columns[3].field = 3;
  columns[3].layout.type = LC_TYPE_UTF8;
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
  columns[3].layout.type = LC_TYPE_BOOL;
  columns[3].true_size = 2;
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
  columns[3].true_size = 3;
  columns[8].pattern_size = 4;
  CHECK_EQUAL(LC_INVALID, read_delimited(&r));
}

int main(void) {
  check_rows();
  check_fixed();
  check_refused();
  return check_result("delimited");
}

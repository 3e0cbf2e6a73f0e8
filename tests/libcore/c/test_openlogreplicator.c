/* OpenLogReplicator's messages: parted by tables; bad ones leave their neighbours; allocation failures are clean. */
#include "libcore/openlogreplicator.h"

#include "refused.h"

enum { MESSAGES = 4 };

static const lc_olr_table TABLES[] = {{"ERP.A", 5}, {"ERP.B", 5}, {"S./X", 4}};

typedef struct input {
  check_batch batch;
  int32_t offsets[MESSAGES + 1], none[MESSAGES + 1];
  int64_t numbers[MESSAGES];
  char text[2048];
} input;

static void make(input *in, int count, const char *const *messages) {
  *in = (input){0};
  size_t size = 0;
  for (int i = 0; i < count; i++) {
    memcpy(in->text + size, messages[i], strlen(messages[i]));
    size += strlen(messages[i]);
    in->offsets[i + 1] = (int32_t)size;
    in->numbers[i] = 10 + i;
  }
  check_batch_start(&in->batch, count);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->none, "");
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, in->text);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
}

static lc_olr_split split(const input *in) {
  lc_olr_split out = {0};
  CHECK_EQUAL(LC_OK, lc_openlogreplicator_split(TABLES, 3, &in->batch.array, 0, &out, NULL));
  return out;
}

static bool row_is(const lc_olr_split *made, int64_t row, const char *expected) {
  const int32_t *offsets = made->batch.children[0]->buffers[1];
  size_t size = (size_t)(offsets[row + 1] - offsets[row]);
  return size == strlen(expected) &&
         memcmp((const char *)made->batch.children[0]->buffers[2] + offsets[row], expected, size) == 0;
}

#define A "\"schema\":{\"owner\":\"ERP\",\"table\":\"A\"}"
#define B "\"schema\":{\"table\":\"B\",\"owner\":\"ERP\"}"
#define X "\"schema\":{\"owner\":\"S\",\"table\":\"\\/X\"}"

static void test_parted(void) {
  const char *messages[] = {"{\"payload\":[{\"op\":\"c\"," B "},{\"op\":\"u\"," A "},{\"op\":\"c\"," X "}]}",
                            "{\"payload\":[{\"op\":\"begin\"},{\"op\":\"d\"," A "}]}",
                            "{\"payload\":[{\"op\":\"d\",\"schema\":{\"table\":\"A\"}},{\"op\":\"ddl\"}]}"};
  input in;
  make(&in, 3, messages);
  lc_olr_split made = split(&in);
  CHECK_EQUAL(0, made.error_count);
  CHECK_EQUAL(1, made.others);
  CHECK(made.ddl_count == 1 && made.ddl[0] == 2);
  CHECK(made.counts[0] == 2 && made.counts[1] == 1 && made.counts[2] == 1);
  CHECK(row_is(&made, 0, "{\"source\":{\"commit_scn\":\"10\",\"scn\":\"1\"},\"op\":\"u\"," A "}"));
  CHECK(row_is(&made, 1, "{\"source\":{\"commit_scn\":\"11\",\"scn\":\"1\"},\"op\":\"d\"," A "}"));
  CHECK(row_is(&made, 2, "{\"source\":{\"commit_scn\":\"10\",\"scn\":\"0\"},\"op\":\"c\"," B "}"));
  CHECK(row_is(&made, 3, "{\"source\":{\"commit_scn\":\"10\",\"scn\":\"2\"},\"op\":\"c\"," X "}"));
  CHECK_EQUAL(11, ((const int64_t *)made.batch.children[1]->buffers[1])[1]);
  CHECK_EQUAL(10, ((const int64_t *)made.batch.children[2]->buffers[1])[3]);
  lc_openlogreplicator_free(&made);
}

/* A message cut at any byte is a syntax fault at its length, and the good one before it is there. */
static void test_truncated(void) {
  static const char whole[] = " { \"a\" : [1] , \"payload\" : [ {\"op\":\"c\"," A "} , {\"op\":\"commit\"} ] } ";
  char cut[sizeof whole];
  for (size_t size = 0; size < sizeof whole - 2; size++) {
    memcpy(cut, whole, size);
    cut[size] = 0;
    input in;
    make(&in, 2, (const char *[]){whole, cut});
    lc_olr_split made = split(&in);
    CHECK_EQUAL(1, made.batch.length);
    CHECK_EQUAL(1, made.error_count);
    if (made.error_count == 1) {
      CHECK_EQUAL(LC_ROW_SYNTAX, made.errors[0].code);
      CHECK_EQUAL(size, made.errors[0].position);
      CHECK_EQUAL(1, made.errors[0].message);
    }
    lc_openlogreplicator_free(&made);
  }
}

static lc_code tables_split(const lc_olr_table *tables, int32_t count, const input *in, int32_t level) {
  lc_olr_split out;
  return lc_openlogreplicator_split(tables, count, &in->batch.array, level, &out, &refused_error);
}

static void test_refusals(void) {
  input in;
  make(&in, 1, (const char *[]){"{}"});
  lc_olr_table tables[2] = {TABLES[0], TABLES[1]};
  REFUSED(tables_split(NULL, 1, &in, 0));
  REFUSED(tables_split(tables, 0, &in, 0));
  REFUSED(tables_split(tables, 10001, &in, 0));
  REFUSED(tables_split(tables, 2, &in, 4));
  REFUSED_WITH(tables[0].name, NULL, tables_split(tables, 2, &in, 0));
  REFUSED_WITH(tables[0].name_size, 0, tables_split(tables, 2, &in, 0));
  REFUSED_WITH(tables[0].name_size, 1001, tables_split(tables, 2, &in, 0));
  REFUSED_WITH(tables[1], TABLES[0], tables_split(tables, 2, &in, 0)); /* twice */
  REFUSED_WITH(tables[0], TABLES[2], tables_split(tables, 2, &in, 0)); /* in another order */
  REFUSED_WITH(in.numbers[0], -1, tables_split(tables, 2, &in, 0));
  REFUSED_WITH(in.batch.array.n_children, 3, tables_split(tables, 2, &in, 0));
  REFUSED(lc_openlogreplicator_split(tables, 2, NULL, 0, NULL, &refused_error));
  REFUSED(lc_openlogreplicator_split(tables, 2, &in.batch.array, 0, NULL, &refused_error));
}

static lc_code split_and_free(void *context) {
  const input *in = context;
  lc_olr_split out = {0};
  lc_code code = lc_openlogreplicator_split(TABLES, 3, &in->batch.array, 0, &out, NULL);
  if (code == LC_OK) {
    CHECK(out.batch.length == 2 && out.error_count == 1 && out.ddl_count == 1);
    lc_openlogreplicator_free(&out);
  }
  return code;
}

int main(void) {
  test_parted();
  test_truncated();
  test_refusals();
  input in;
  make(&in, 3,
       (const char *[]){"{\"payload\":[{\"op\":\"c\"," A "},{\"op\":\"c\"," X "}]}", "{\"payload\":[{}]}",
                        "{\"payload\":[{\"op\":\"ddl\"}]}"});
  check_allocation_failures(split_and_free, &in);
  return check_result("openlogreplicator");
}

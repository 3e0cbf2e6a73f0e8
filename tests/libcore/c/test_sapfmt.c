/* sapfmt: rows cut by offset, characters and delimiter; kinds at their borders; amounts; code pages; failing
 * allocations. */
#include "libcore/sapfmt.h"

#include "check.h"

enum { ROWS_MAX = 8 };

typedef struct rows {
  check_batch batch;
  uint8_t *data; /* of exactly the rows' bytes, so that a sanitizer sees one too far */
  int32_t offsets[ROWS_MAX + 1];
  uint8_t validity[1];
} rows;

static void rows_make(rows *r, int32_t type, int count, const char *const *texts) {
  *r = (rows){.validity = {0}};
  size_t size = 0, at = 0;
  for (int i = 0; i < count; i++)
    size += texts[i] ? strlen(texts[i]) : 0;
  r->data = malloc(size ? size : 1);
  for (int i = 0; i < count; i++) {
    if (texts[i]) {
      memcpy(r->data + at, texts[i], strlen(texts[i]));
      at += strlen(texts[i]);
      lc_bit_set(r->validity, i);
    }
    r->offsets[i + 1] = (int32_t)at;
  }
  check_batch_start(&r->batch, count);
  check_batch_add(&r->batch, (lc_column){.type = type}, r->validity, r->offsets, r->data);
}

static lc_code run(rows *r, const lc_sap_plan *plan, lc_sap_result *out, lc_error *error) {
  return lc_sap_read(plan, &r->batch.array, r->batch.columns, 0, out, error);
}

static bool valid(const lc_sap_result *made, int c, int64_t row) {
  return lc_bit_get(made->batch.children[c]->buffers[0], row);
}

static bool text_is(const lc_sap_result *made, int c, int64_t row, const char *text) {
  const int32_t *offsets = made->batch.children[c]->buffers[1];
  const char *data = made->batch.children[c]->buffers[2];
  size_t size = (size_t)(offsets[row + 1] - offsets[row]);
  return valid(made, c, row) && size == strlen(text) && memcmp(data + offsets[row], text, size) == 0;
}

static int64_t long_at(const lc_sap_result *made, int c, int64_t row) {
  const int64_t *values = made->batch.children[c]->buffers[1];
  return values[row];
}

static const lc_sap_field FIELDS[] = {
    {.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8, .offset = 0, .length = 4},
    {.kind = LC_SAP_SKIP, .offset = 5, .length = 2},
    {.kind = LC_SAP_DATS, .type = LC_TYPE_DATE32, .offset = 8, .length = 8},
    {.kind = LC_SAP_NUMBER, .type = LC_TYPE_DECIMAL128, .precision = 9, .scale = 2, .offset = 17, .length = 8},
};

static void rows_by_offset(void) {
  rows r;
  lc_sap_result made = {0};
  lc_error error;
  lc_sap_plan plan = {.fields = FIELDS, .field_count = 4, .delimiter = '|', .padded = 1};
  const char *const texts[] = {"ab  |zz|19700102|   1.50-", "a|b |zz|20230230|  99.99",     NULL,
                               "\xc3\xa4" "b  |zz|00000000|",  "\xf0\x9f\x98\x80" "b |zz|19700101|1", "a\xff",
                               "ab  |zz|19700102|   1.50-x"};
  rows_make(&r, LC_TYPE_UTF8, 7, texts);
  CHECK_EQUAL(LC_OK, run(&r, &plan, &made, &error));
  CHECK_EQUAL(3, made.batch.n_children);
  CHECK(text_is(&made, 0, 0, "ab") && text_is(&made, 0, 1, "a|b") && text_is(&made, 0, 3, "\xc3\xa4" "b"));
  CHECK(text_is(&made, 0, 4, "\xf0\x9f\x98\x80" "b"));
  CHECK(!valid(&made, 0, 2) && !valid(&made, 1, 1) && !valid(&made, 1, 3) && valid(&made, 1, 4));
  CHECK_EQUAL(1, ((const int32_t *)made.batch.children[1]->buffers[1])[0]);
  const uint8_t *decimals = made.batch.children[2]->buffers[1];
  CHECK_EQUAL(-150, *(const int64_t *)(const void *)decimals);
  CHECK_EQUAL(-1, *(const int64_t *)(const void *)(decimals + 8));
  CHECK_EQUAL(3, made.error_count);
  CHECK(made.errors[0].row == 1 && made.errors[0].position == 8 && made.errors[0].code == LC_SAP_INVALID_DATS);
  CHECK(made.errors[0].field == 2);
  CHECK(made.errors[1].row == 5 && made.errors[1].position == 1 && made.errors[1].code == LC_SAP_UTF8);
  CHECK(made.errors[2].row == 6 && made.errors[2].position == 25 && made.errors[2].code == LC_SAP_LENGTH);
  lc_sap_result_free(&made);
  free(r.data);
}

static void rows_by_delimiter(void) {
  rows r;
  lc_sap_result made = {0};
  lc_error error;
  lc_sap_field fields[] = {{.kind = LC_SAP_ALPHA_OUT, .type = LC_TYPE_UTF8, .length = 4},
                           {.kind = LC_SAP_INT4, .type = LC_TYPE_INT64}};
  lc_sap_plan plan = {.fields = fields, .field_count = 2, .delimiter = ';'};
  const char *const texts[] = {"0007;12-", "a;b;c", "0007", "00007;1", "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4 ; 5"};
  rows_make(&r, LC_TYPE_UTF8, 5, texts);
  CHECK_EQUAL(LC_OK, run(&r, &plan, &made, &error));
  CHECK(text_is(&made, 0, 0, "7") && text_is(&made, 0, 4, "\xc3\xa4\xc3\xa4\xc3\xa4\xc3\xa4"));
  CHECK_EQUAL(-12, long_at(&made, 1, 0));
  CHECK_EQUAL(5, long_at(&made, 1, 4));
  CHECK_EQUAL(3, made.error_count);
  CHECK(made.errors[0].row == 1 && made.errors[0].position == 3 && made.errors[0].code == LC_SAP_DELIMITER);
  CHECK(made.errors[1].row == 2 && made.errors[1].position == 4 && made.errors[1].code == LC_SAP_DELIMITER);
  CHECK(made.errors[2].row == 3 && made.errors[2].position == 0 && made.errors[2].code == LC_SAP_LENGTH);
  lc_sap_result_free(&made);
  free(r.data);
}

/* One value of one kind: the code it gives (0: it is read), and its 64 bits where it is read into INT64-wide cells. */
static int32_t read_one(int32_t kind, int32_t type, int32_t precision, int32_t scale, const char *text,
                        int64_t *value) {
  rows r;
  lc_sap_result made = {0};
  lc_error error;
  lc_sap_field field = {.kind = kind, .type = type, .precision = precision, .scale = scale, .decimals = 2};
  lc_sap_plan plan = {.fields = &field, .field_count = 1, .padded = 1};
  rows_make(&r, LC_TYPE_BINARY, 1, &text);
  CHECK_EQUAL(LC_OK, run(&r, &plan, &made, &error));
  int32_t code = made.error_count > 0 ? made.errors[0].code : valid(&made, 0, 0) ? 0 : -1;
  if (value) *value = long_at(&made, 0, 0);
  lc_sap_result_free(&made);
  free(r.data);
  return code;
}

static void kinds_at_their_borders(void) {
  int64_t value;
  CHECK_EQUAL(0, read_one(LC_SAP_TIMS, LC_TYPE_TIME64, 0, 6, "235959", &value));
  CHECK_EQUAL(86399000000, value);
  CHECK_EQUAL(LC_SAP_INVALID_TIMS, read_one(LC_SAP_TIMS, LC_TYPE_TIME64, 0, 6, "240000", NULL));
  CHECK_EQUAL(-1, read_one(LC_SAP_TIMS, LC_TYPE_TIME64, 0, 6, "    ", NULL));
  CHECK_EQUAL(0, read_one(LC_SAP_PACKED, LC_TYPE_DECIMAL128, 9, 2, "\x12\x34\x5d", &value));
  CHECK_EQUAL(-12345, value);
  CHECK_EQUAL(LC_SAP_TYPE, read_one(LC_SAP_PACKED, LC_TYPE_DECIMAL128, 9, 2, "\x12\x34\x5e", NULL));
  CHECK_EQUAL(LC_SAP_SCALE, read_one(LC_SAP_PACKED, LC_TYPE_DECIMAL128, 9, 1, "\x12\x34\x5c", NULL));
  CHECK_EQUAL(0, read_one(LC_SAP_TIMESTAMP, LC_TYPE_TIMESTAMP, 0, 9, "20240229153016.1234567", &value));
  CHECK_EQUAL(1709220616123456700, value);
  CHECK_EQUAL(LC_SAP_SCALE, read_one(LC_SAP_TIMESTAMP, LC_TYPE_TIMESTAMP, 0, 6, "20240229153016.1234567", NULL));
  CHECK_EQUAL(0, read_one(LC_SAP_ODATA_DATE, LC_TYPE_TIMESTAMP, 0, 6, "/Date(-2208988800000)/", &value));
  CHECK_EQUAL(-2208988800000000, value);
  CHECK_EQUAL(LC_SAP_RANGE, read_one(LC_SAP_ODATA_DATE, LC_TYPE_TIMESTAMP, 0, 6, "/Date(9223372036854775807)/", NULL));
  CHECK_EQUAL(LC_SAP_OVERFLOWED, read_one(LC_SAP_NUMBER, LC_TYPE_DECIMAL128, 9, 2, "*1", NULL));
  CHECK_EQUAL(LC_SAP_RANGE, read_one(LC_SAP_INT1, LC_TYPE_INT64, 0, 0, "256", NULL));
  CHECK_EQUAL(LC_SAP_RANGE, read_one(LC_SAP_FLTP, LC_TYPE_FLOAT64, 0, 0, "1E309", NULL));
  CHECK_EQUAL(LC_SAP_TYPE, read_one(LC_SAP_RAW, LC_TYPE_BINARY, 0, 0, "0g", NULL));
}

static void plans_that_cannot_be(void) {
  rows r;
  lc_sap_result made = {0};
  lc_error error;
  const char *const text = "a";
  rows_make(&r, LC_TYPE_UTF8, 1, &text);
  lc_sap_field good = {.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8, .length = 2};
  lc_sap_field bad[][2] = {
      {{.kind = LC_SAP_DATS, .type = LC_TYPE_UTF8}, good},
      {{.kind = LC_SAP_PACKED, .type = LC_TYPE_DECIMAL128, .precision = 5, .length = 2}, good},
      {{.kind = 99, .type = LC_TYPE_UTF8, .length = 2}, good},
      {good, {.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8, .offset = 1}},
      {{.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8}, {.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8, .offset = 9}},
      {{.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8, .offset = -1, .length = 1}, good},
      {{.kind = LC_SAP_NUMBER, .type = LC_TYPE_DECIMAL128, .precision = 39, .length = 2}, good},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    lc_sap_plan plan = {.fields = bad[i], .field_count = 2, .padded = 1};
    CHECK_EQUAL(LC_INVALID, run(&r, &plan, &made, &error));
  }
  lc_sap_plan none = {.fields = &good, .field_count = 1};
  CHECK_EQUAL(LC_INVALID, run(&r, &none, &made, &error)); /* not padded, and no delimiter */
  none = (lc_sap_plan){.fields = &good, .padded = 1};
  CHECK_EQUAL(LC_INVALID, run(&r, &none, &made, &error));
  CHECK_EQUAL(LC_INVALID, lc_sap_read(NULL, &r.batch.array, r.batch.columns, 0, &made, &error));
  free(r.data);
}

typedef struct amounts {
  check_batch batch;
  int64_t values[8];
} amounts;

/* 1.00 JPY, 1000.00 TND, 0.01 of no currency, 0 of no currency */
static lc_code shift_amounts(void *context) {
  static const char keys[] = "JPYTND ";
  static const int32_t offsets[] = {0, 3, 7, 7, 7};
  static const uint8_t validity[] = {0x03};
  int32_t to_real = *(int32_t *)context;
  amounts a = {.values = {100, 0, 100000, 0, 1, 0, 0, 0}};
  check_batch_start(&a.batch, 4);
  check_batch_add(&a.batch, (lc_column){LC_TYPE_DECIMAL128, 0, 15, 2}, NULL, a.values, NULL);
  check_batch_add(&a.batch, (lc_column){.type = LC_TYPE_UTF8}, validity, offsets, keys);
  lc_sap_currency table[] = {{"JPY", 0}, {"TND", 3}};
  lc_column target = {LC_TYPE_DECIMAL128, 0, 17, 3};
  lc_sap_result made = {0};
  lc_error error;
  lc_code code = lc_sap_shift(&a.batch.array, a.batch.columns, table, 2, to_real, &target, &made, &error);
  if (code != LC_OK) return code;
  const int64_t *out = made.batch.children[0]->buffers[1];
  CHECK_EQUAL(to_real ? 100000 : 10, out[0]);
  CHECK_EQUAL(to_real ? 100000 : 10000000, out[2]);
  CHECK(!valid(&made, 0, 2) && valid(&made, 0, 3) && out[6] == 0);
  CHECK(made.error_count == 1 && made.errors[0].row == 2 && made.errors[0].code == LC_SAP_CURRENCY);
  lc_sap_result_free(&made);
  return LC_OK;
}

static void tables_that_cannot_be(void) {
  amounts a = {0};
  static const int32_t offsets[] = {0, 0};
  check_batch_start(&a.batch, 1);
  check_batch_add(&a.batch, (lc_column){LC_TYPE_DECIMAL128, 0, 15, 2}, NULL, a.values, NULL);
  check_batch_add(&a.batch, (lc_column){.type = LC_TYPE_UTF8}, NULL, offsets, "");
  lc_column target = {LC_TYPE_DECIMAL128, 0, 17, 3}, text = {.type = LC_TYPE_UTF8};
  lc_sap_currency twice[] = {{"JPY", 0}, {"JPY", 3}}, large[] = {{"JPY", 10}};
  lc_sap_result made = {0};
  lc_error error;
  CHECK_EQUAL(LC_INVALID, lc_sap_shift(&a.batch.array, a.batch.columns, twice, 2, 1, &target, &made, &error));
  CHECK_EQUAL(LC_INVALID, lc_sap_shift(&a.batch.array, a.batch.columns, large, 1, 1, &target, &made, &error));
  CHECK_EQUAL(LC_INVALID, lc_sap_shift(&a.batch.array, a.batch.columns, twice, 1, 1, &text, &made, &error));
}

static lc_code code_pages(void *context) {
  const char *const texts[] = {"\xd8\x3d\xde\x01", "\xd8\x3d", "x"};
  rows r;
  rows_make(&r, LC_TYPE_BINARY, 3, texts);
  lc_sap_result made = {0};
  lc_error error;
  lc_code code = lc_sap_transcode(&r.batch.array, 3, NULL, &made, &error);
  if (code == LC_OK) {
    CHECK(text_is(&made, 0, 0, "\xf0\x9f\x98\x81"));
    CHECK_EQUAL(2, made.error_count);
    CHECK(made.errors[0].row == 1 && made.errors[0].position == 0 && made.errors[1].row == 2);
    lc_sap_result_free(&made);
    CHECK_EQUAL(LC_INVALID, lc_sap_transcode(&r.batch.array, 4, NULL, &made, &error));
    CHECK_EQUAL(LC_INVALID, lc_sap_transcode(&r.batch.array, 5, NULL, &made, &error));
  }
  free(r.data);
  return code;
}

/* Every growing thing: texts, numbers of many digits, faults. */
static lc_code everything(void *context) {
  lc_sap_field fields[] = {{.kind = LC_SAP_CHAR, .type = LC_TYPE_UTF8, .length = 2},
                           {.kind = LC_SAP_NUMBER, .type = LC_TYPE_UTF8, .offset = 2, .length = 6},
                           {.kind = LC_SAP_RAW, .type = LC_TYPE_BINARY, .offset = 8, .length = 4},
                           {.kind = LC_SAP_NUMC, .type = LC_TYPE_UTF8, .offset = 12, .length = 3},
                           {.kind = LC_SAP_ALPHA_IN, .type = LC_TYPE_UTF8, .offset = 15, .length = 9},
                           {.kind = LC_SAP_BASE64, .type = LC_TYPE_BINARY, .offset = 24, .length = 4}};
  lc_sap_plan plan = {.fields = fields, .field_count = 6, .padded = 1};
  const char *const texts[] = {"ab 1.50-00ff01271       AP8Q", "abx"};
  rows r;
  rows_make(&r, LC_TYPE_UTF8, 2, texts);
  lc_sap_result made = {0};
  lc_error error;
  lc_code code = run(&r, &plan, &made, &error);
  if (code == LC_OK) {
    CHECK(text_is(&made, 1, 0, "-1.50") && text_is(&made, 3, 0, "012") && text_is(&made, 4, 0, "000000071"));
    CHECK_EQUAL(1, made.error_count);
    lc_sap_result_free(&made);
  }
  free(r.data);
  return code;
}

int main(void) {
  rows_by_offset();
  rows_by_delimiter();
  kinds_at_their_borders();
  plans_that_cannot_be();
  tables_that_cannot_be();
  int32_t to_real = 1, to_stored = 0;
  CHECK_EQUAL(LC_OK, shift_amounts(&to_real));
  CHECK_EQUAL(LC_OK, shift_amounts(&to_stored));
  CHECK_EQUAL(LC_OK, everything(NULL));
  check_allocation_failures(shift_amounts, &to_real);
  check_allocation_failures(code_pages, NULL);
  check_allocation_failures(everything, NULL);
  return check_result("sapfmt");
}

/* Hostile bytes into SAP rows of every kind, padded and divided, as text and as bytes: faults lie inside the value, a
 * good row before and after is read all the same, columns are sound. */
#include "libcore/sapfmt.h"

#include "check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { KINDS = 19, LENGTH = 24 };

static const int32_t TYPES[KINDS + 1] = {
    0,                LC_TYPE_UTF8,   LC_TYPE_UTF8, LC_TYPE_DATE32,     LC_TYPE_TIME64,    LC_TYPE_DECIMAL128,
    LC_TYPE_FLOAT64,  LC_TYPE_INT16,  LC_TYPE_INT16, LC_TYPE_INT32,     LC_TYPE_INT64,     LC_TYPE_BINARY,
    LC_TYPE_BOOL,     LC_TYPE_DECIMAL256, LC_TYPE_TIMESTAMP, LC_TYPE_UTF8, LC_TYPE_UTF8,   LC_TYPE_TIMESTAMP,
    LC_TYPE_TIME64,   LC_TYPE_BINARY};

/* The kinds in an order that the first byte turns, each `LENGTH` units wide; a delimiter makes each one wider. */
static int32_t plan_make(lc_sap_field *fields, uint8_t turn, bool text, bool delimiter) {
  int32_t count = 0;
  for (int32_t k = 0; k < KINDS; k++) {
    int32_t kind = (k + turn) % KINDS + 1;
    if (kind == LC_SAP_PACKED && text) kind = LC_SAP_SKIP;
    bool decimal = TYPES[kind] == LC_TYPE_DECIMAL128 || TYPES[kind] == LC_TYPE_DECIMAL256;
    fields[count] = (lc_sap_field){.kind = kind,
                                   .type = TYPES[kind],
                                   .offset = count * (LENGTH + delimiter),
                                   .length = LENGTH,
                                   .precision = decimal ? 20 : 0,
                                   .scale = decimal ? 3 : turn & 1 ? 6 : 9,
                                   .decimals = turn % 5,
                                   .initial_null = turn >> 7};
    count++;
  }
  return count;
}

/* Offsets rise and end where the bytes do; nothing is read from them that a consumer would not. */
static void check_column(const struct ArrowArray *column, int64_t rows) {
  if (column->length != rows || column->null_count < 0 || column->null_count > rows) abort();
  if (column->n_buffers != 3) return;
  const int32_t *offsets = column->buffers[1];
  const uint8_t *bytes = column->buffers[2];
  uint32_t sum = 0;
  for (int64_t i = 0; i < rows; i++) {
    if (offsets[i + 1] < offsets[i]) abort();
    for (int32_t b = offsets[i]; b < offsets[i + 1]; b++)
      sum += bytes[b]; /* a sanitizer looks */
  }
  if (sum == UINT32_MAX && rows == 0) abort();
}

static void check_made(lc_sap_result *made, int64_t size) {
  for (int64_t c = 0; c < made->batch.n_children; c++)
    check_column(made->batch.children[c], 3);
  for (int64_t e = 0; e < made->error_count; e++) {
    const lc_sap_error *fault = &made->errors[e];
    if (fault->row != 1 || fault->position < 0 || fault->position > size || fault->code < 1 || fault->code > 9) abort();
  }
  if (made->error_count > 1) abort();
  lc_sap_result_free(made);
}

static void read_all(const uint8_t *data, size_t size, uint8_t turn) {
  int32_t offsets[4] = {0, 0, (int32_t)size, (int32_t)size};
  static const uint8_t validity[1] = {0x02}; /* the rows beside it are NULL: good in any plan */
  check_batch batch;
  for (int variant = 0; variant < 6; variant++) {
    bool text = variant & 1, delimiter = variant >= 2;
    lc_sap_field fields[KINDS];
    lc_sap_plan plan = {.fields = fields, .delimiter = delimiter ? '|' : 0, .padded = variant < 4};
    plan.field_count = plan_make(fields, turn, text, delimiter);
    check_batch_start(&batch, 3);
    check_batch_add(&batch, (lc_column){.type = text ? LC_TYPE_UTF8 : LC_TYPE_BINARY}, validity, offsets, data);
    lc_sap_result made;
    lc_error error;
    if (lc_sap_read(&plan, &batch.array, batch.columns, 0, &made, &error) != LC_OK) abort();
    check_made(&made, (int64_t)size);
  }
}

static void transcode_all(const uint8_t *data, size_t size) {
  static uint32_t table[256];
  for (uint32_t i = 0; i < 256; i++)
    table[i] = i == 0x81 ? UINT32_MAX : i < 0x80 ? i : i * 0x1011; /* of four bytes of UTF-8 each */
  int32_t offsets[4] = {0, 0, (int32_t)size, (int32_t)size};
  check_batch batch;
  check_batch_start(&batch, 3);
  check_batch_add(&batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, offsets, data);
  for (int32_t page = 1; page <= 4; page++) {
    lc_sap_result made;
    lc_error error;
    if (lc_sap_transcode(&batch.array, page, page == 4 ? table : NULL, &made, &error) != LC_OK) abort();
    check_made(&made, (int64_t)size);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 1 || size > 1 << 20) return 0;
  read_all(data + 1, size - 1, data[0]);
  /* the same bytes over and over, so that every kind meets them at its cell's start */
  for (uint8_t turn = 0; turn < KINDS; turn += 6)
    read_all(data + 1, size - 1, turn);
  transcode_all(data + 1, size - 1);
  return 0;
}

#include "fuzz_driver.h"

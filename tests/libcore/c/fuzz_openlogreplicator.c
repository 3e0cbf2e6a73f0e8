/* Hostile bytes into the splitter of OpenLogReplicator's messages: all vector levels part them in the same way, faults
 * lie inside the value, what is given out is JSON, and a good message before and after is parted all the same.  Once
 * more without the one after, so that a read behind the bytes leaves the memory. */
#include "libcore/openlogreplicator.h"

#include "check.h"
#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char GOOD[] = "{\"payload\":[{\"op\":\"c\",\"schema\":{\"owner\":\"ERP\",\"table\":\"ITEMS\"}}]}";
static const lc_olr_table TABLES[] = {{"ERP.ITEMS", 9}, {"SAPSR3./BIC/A", 13}, {"T", 1}};

typedef struct input {
  check_batch batch;
  uint8_t *values;
  int32_t offsets[4], none[4];
  int64_t numbers[3];
} input;

static void input_make(input *in, const uint8_t *data, size_t size, bool last) {
  size_t good = sizeof GOOD - 1;
  *in = (input){.values = malloc((last ? 1 : 2) * good + size), .numbers = {0, 9, 10}};
  if (in->values == NULL) abort();
  memcpy(in->values, GOOD, good);
  if (size > 0) memcpy(in->values + good, data, size);
  if (!last) memcpy(in->values + good + size, GOOD, good);
  memcpy(in->offsets, (int32_t[4]){0, (int32_t)good, (int32_t)(good + size), (int32_t)(2 * good + size)},
         sizeof in->offsets);
  check_batch_start(&in->batch, last ? 2 : 3);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->none, "");
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, in->values);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
}

static void check_made(const lc_olr_split *made, int64_t size, bool last) {
  if (made->counts[0] < (last ? 1 : 2) || made->error_count > 1 || made->ddl_count > 1) abort();
  if (made->counts[0] + made->counts[1] + made->counts[2] != made->batch.length) abort();
  if (made->error_count == 1) {
    const lc_row_error *bad = made->errors;
    if (bad->message != 1 || bad->position < 0 || bad->position > size || bad->code < 1) abort();
    if (made->batch.length != (last ? 1 : 2) || made->others != 0 || made->ddl_count != 0) abort();
  }
  const int32_t *offsets = made->batch.children[0]->buffers[1];
  const uint8_t *values = made->batch.children[0]->buffers[2];
  lc_json_fault fault;
  for (int64_t row = 0; row < made->batch.length; row++)
    if (!lc_json_check(values + offsets[row], values + offsets[row + 1], lc_kernels_pick(1), &fault)) abort();
}

static void split(const uint8_t *data, size_t size, bool last) {
  input in;
  input_make(&in, data, size, last);
  int64_t rows = -1, position = -1;
  for (int32_t level = 1; level <= 3; level++) {
    lc_olr_split made;
    lc_error error;
    lc_code code = lc_openlogreplicator_split(TABLES, 3, &in.batch.array, level, &made, &error);
    if (code == LC_INVALID) continue; /* this machine lacks the level */
    if (code != LC_OK) abort();
    check_made(&made, (int64_t)size, last);
    int64_t found = made.error_count == 1 ? made.errors[0].position * 16 + made.errors[0].code : -2;
    if (rows >= 0 && (rows != made.batch.length || position != found)) abort();
    rows = made.batch.length;
    position = found;
    lc_openlogreplicator_free(&made);
  }
  free(in.values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 1 << 20) return 0;
  split(data, size, false);
  split(data, size, true);
  return 0;
}

#include "fuzz_driver.h"

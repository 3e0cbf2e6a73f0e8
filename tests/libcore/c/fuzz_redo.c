/* Hostile bytes into the redo parser: it answers, faults lie inside the statement, texts are UTF-8, and a good
 * statement before and after is read all the same.  Once more without the one after, so that a read behind the bytes
 * leaves the memory. */
#include "libcore/redo.h"

#include "check.h"
#include "redo_plan.h"
#include "scan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char GOOD[] = "insert into T(ID,S) values (7,'x')";

/* A good statement, the bytes (cut in two where they have a NUL), and unless they are `last` the good one again. */
typedef struct input {
  check_batch batch;
  uint8_t *text;
  int32_t offsets[5];
  int8_t csf[4];
} input;

static void input_make(input *in, const uint8_t *data, size_t size, bool last) {
  size_t good = sizeof GOOD - 1;
  const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
  size_t cut = nul == NULL ? size : (size_t)(nul - data);
  in->text = malloc((last ? 1 : 2) * good + size);
  if (in->text == NULL) abort();
  memcpy(in->text, GOOD, good);
  if (size > 0) memcpy(in->text + good, data, size);
  if (!last) memcpy(in->text + good + size, GOOD, good);
  memcpy(in->offsets,
         (int32_t[5]){0, (int32_t)good, (int32_t)(good + cut), (int32_t)(good + size), (int32_t)(2 * good + size)},
         sizeof in->offsets);
  memcpy(in->csf, (int8_t[4]){0, 1, 0, 0}, sizeof in->csf);
  check_batch_start(&in->batch, last ? 3 : 4);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, in->text);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT8}, NULL, in->csf, NULL);
}

static void check_made(const lc_redo_result *made, int64_t size, bool last) {
  if (made->consumed != (last ? 3 : 4) || made->error_count > 1) abort(); /* the good ones are good */
  const int32_t *rows = made->batch.children[REDO_COLUMN_COUNT + 1]->buffers[1];
  if (made->batch.length < (last ? 1 : 2) || rows[0] != 0) abort();
  if (!last && rows[made->batch.length - 1] != 3) abort();
  if (made->error_count == 1) {
    const lc_redo_error *bad = made->errors;
    if (bad->row != 1 || bad->position < 0 || bad->position > size || bad->column >= REDO_COLUMN_COUNT) abort();
  }
  for (int32_t c = 0; c < REDO_COLUMN_COUNT; c++) {
    const struct ArrowArray *child = made->batch.children[c];
    if (child->n_buffers != 3 || child->buffers[2] == NULL || REDO_COLUMN[c].type != LC_TYPE_UTF8) continue;
    const int32_t *offsets = child->buffers[1];
    for (int64_t row = 0; row < made->batch.length; row++) {
      size_t text_size = (size_t)(offsets[row + 1] - offsets[row]);
      if (lc_kernels_pick(1)->utf8_fault((const uint8_t *)child->buffers[2] + offsets[row], text_size) >= 0) abort();
    }
  }
}

static void parse(const uint8_t *data, size_t size, bool last) {
  input in;
  input_make(&in, data, size, last);
  for (int variant = 0; variant < 4; variant++) {
    lc_redo_plan plan = redo_plan();
    plan.relaxed = variant & 1;
    plan.images = variant >> 1;
    plan.skip_unknown = plan.local_is_utc = variant == 3;
    lc_redo_result made;
    lc_error error;
    if (lc_redo_parse(&plan, &in.batch.array, &made, &error) != LC_OK) abort();
    check_made(&made, (int64_t)size, last);
    lc_redo_free(&made);
  }
  free(in.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 1 << 20) return 0;
  parse(data, size, false);
  parse(data, size, true);
  return 0;
}

#include "fuzz_driver.h"

/* Hostile bytes into the envelope decoder: all vector levels make the same rows, faults lie inside the value, and a
 * good message before and after is read all the same.  Once more without the one after, so that a read behind the
 * bytes leaves the memory. */
#include "libcore/envelope.h"

#include "check.h"
#include "envelope_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char GOOD[] =
    "{\"before\":null,\"after\":{\"id\":7,\"s\":\"x\"},\"source\":{\"lsn\":5,\"sequence\":\"[\\\"4\\\",\\\"5\\\"]\"},"
    "\"op\":\"c\"}";

typedef struct input {
  check_batch batch;
  uint8_t *values, *keys;
  bool last;
  int32_t offsets[4], key_offsets[4];
  int64_t numbers[3];
} input;

/* A good message, the bytes, and unless they are `last` the good one again; the bytes' key is what follows their first
 * NUL, if any. */
static void input_make(input *in, const uint8_t *data, size_t size, bool last) {
  const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
  size_t value = nul == NULL ? size : (size_t)(nul - data), key = nul == NULL ? 0 : size - value - 1,
         good = sizeof GOOD - 1;
  in->last = last;
  in->values = malloc((last ? 1 : 2) * good + value);
  in->keys = malloc(key > 0 ? key : 1);
  if (in->values == NULL || in->keys == NULL) abort();
  memcpy(in->values, GOOD, good);
  if (size > 0) memcpy(in->values + good, data, value);
  if (!last) memcpy(in->values + good + value, GOOD, good);
  if (key > 0) memcpy(in->keys, nul + 1, key);
  memcpy(in->offsets, (int32_t[4]){0, (int32_t)good, (int32_t)(good + value), (int32_t)(2 * good + value)},
         sizeof in->offsets);
  memcpy(in->key_offsets, (int32_t[4]){0, 0, (int32_t)key, (int32_t)key}, sizeof in->key_offsets);
  memset(in->numbers, 0, sizeof in->numbers);
  check_batch_start(&in->batch, last ? 2 : 3);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->key_offsets, in->keys);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, in->values);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
}

static void check_decoded(const lc_decoded *made, const input *in) {
  if (made->row_count < 1 || made->error_count > 1) abort(); /* the good ones are good */
  if (!in->last && made->stop == LC_STOP_NONE && made->rows[made->row_count - 1] != 2) abort();
  if (made->error_count == 1) {
    const lc_row_error *bad = made->errors;
    if (bad->message != 1 || bad->position < 0 || bad->position > in->offsets[2] - in->offsets[1]) abort();
  }
}

static uint64_t summary(const lc_decoded *made) {
  uint64_t sum = (uint64_t)made->row_count * 31 + (uint64_t)made->consumed * 7 + (uint64_t)made->event_count;
  if (made->error_count > 0) sum = sum * 1000003 + (uint64_t)(made->errors[0].position * 16 + made->errors[0].code);
  for (int64_t c = 0; c < made->batch.n_children; c++) {
    sum = sum * 1000003 + (uint64_t)made->batch.children[c]->null_count;
    if (made->batch.children[c]->n_buffers == 3)
      sum = sum * 1000003 + (uint64_t)((const int32_t *)made->batch.children[c]->buffers[1])[made->row_count];
  }
  return sum;
}

static void decode(const uint8_t *data, size_t size, bool last) {
  input in;
  input_make(&in, data, size, last);
  uint64_t first = 0;
  bool seen = false;
  for (int32_t variant = 0; variant < 6; variant++) {
    lc_envelope_plan plan = every_plan();
    lc_wire_column columns[EVERY_COUNT];
    memcpy(columns, EVERY_COLUMN, sizeof columns);
    columns[0].is_key = variant < 3;
    if (variant >= 3) { /* the forms that Avro lacks */
      columns[6].encoding = LC_ENCODING_HEX;
      columns[16].encoding = LC_ENCODING_NAMED_TIMESTAMP;
    }
    plan.columns = columns;
    plan.transactions = variant >= 3;
    if (variant == 0 || variant == 3) seen = false;
    lc_envelope_state state = {.redelivered = -1};
    lc_decoded made;
    lc_error error;
    lc_code code = lc_envelope_decode(&plan, &in.batch.array, 0, &state, 1 + variant % 3, &made, &error);
    if (code == LC_INVALID) continue; /* this machine lacks the level */
    if (code != LC_OK) abort();
    if (variant < 3) check_decoded(&made, &in);
    uint64_t sum = summary(&made);
    if (seen && sum != first) abort();
    first = sum;
    seen = true;
    lc_decoded_free(&made);
  }
  free(in.values);
  free(in.keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 1 << 20) return 0;
  decode(data, size, false);
  decode(data, size, true);
  return 0;
}

#include "fuzz_driver.h"

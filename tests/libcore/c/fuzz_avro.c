/* Hostile bytes into the Avro decoder: all vector levels make the same rows, faults lie inside the value, and a good
 * message before and after is read all the same.  In one variant the bytes come last, so that a read behind them leaves
 * the memory. */
#include "avro_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* id 3, all else null; then the source, no transaction, op c. */
static size_t good_make(uint8_t *out, bool flat) {
  static const uint8_t tail[] = {2, 0, 0, 0, 0, 0, 2, 'c'};
  size_t size = 0;
  memcpy(out, "\0\0\0\0\7", 5);
  size += 5;
  if (!flat) {
    out[size++] = 0;
    out[size++] = 2;
  }
  out[size++] = 2;
  out[size++] = 6;
  memset(out + size, 0, EVERY_COUNT - 1);
  size += EVERY_COUNT - 1;
  if (!flat) {
    memcpy(out + size, tail, sizeof tail);
    size += sizeof tail;
  }
  return size;
}

typedef struct input {
  check_batch batch;
  uint8_t *values, *keys;
  int32_t offsets[4], key_offsets[4];
  int64_t numbers[3];
} input;

/* A good message, the bytes behind a frame, and unless they are `last` the good one again; the bytes are the second
 * one's key, too. */
static void input_make(input *in, const uint8_t *data, size_t size, bool flat, bool last) {
  uint8_t good[128];
  size_t head = good_make(good, flat), value = size + 5;
  in->values = malloc((last ? 1 : 2) * head + value);
  in->keys = malloc(size + 5);
  if (in->values == NULL || in->keys == NULL) abort();
  memcpy(in->values, good, head);
  memcpy(in->values + head, "\0\0\0\0\7", 5);
  memcpy(in->keys, "\0\0\0\0\10", 5);
  if (size > 0) memcpy(in->values + head + 5, data, size);
  if (size > 0) memcpy(in->keys + 5, data, size);
  if (!last) memcpy(in->values + head + value, good, head);
  memcpy(in->offsets, (int32_t[4]){0, (int32_t)head, (int32_t)(head + value), (int32_t)(2 * head + value)},
         sizeof in->offsets);
  memcpy(in->key_offsets, (int32_t[4]){0, 0, (int32_t)value, (int32_t)value}, sizeof in->key_offsets);
  memset(in->numbers, 0, sizeof in->numbers);
  check_batch_start(&in->batch, last ? 2 : 3);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->key_offsets, in->keys);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_BINARY}, NULL, in->offsets, in->values);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
  check_batch_add(&in->batch, (lc_column){.type = LC_TYPE_INT64}, NULL, in->numbers, NULL);
}

static void check_decoded(const lc_decoded *made, const input *in, bool last) {
  if (made->row_count < 1 || made->error_count > 1) abort(); /* the good ones are good */
  if (!last && made->stop == LC_STOP_NONE && made->rows[made->row_count - 1] != 2) abort();
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 1 << 20) return 0;
  for (int32_t variant = 0; variant < 5; variant++) {
    bool flat = variant == 1, keyless = variant == 2, last = variant == 4;
    every_avro value, key;
    input in;
    input_make(&in, data, size, flat, last);
    lc_wire_column columns[EVERY_COUNT];
    memcpy(columns, EVERY_COLUMN, sizeof columns);
    columns[0].is_key = !keyless;
    lc_avro_plan plan = {.rows = every_plan(), .framing = 4, .mode = flat ? LC_AVRO_FLAT : LC_AVRO_ENVELOPE};
    plan.rows.columns = columns;
    plan.rows.transactions = variant == 3;
    plan.value = every_avro_schema(&value, flat);
    plan.key = every_avro_key(&key);
    uint64_t first = 0;
    for (int32_t level = 1; level <= 3; level++) {
      lc_envelope_state state = {.redelivered = -1};
      lc_decoded made;
      lc_error error;
      lc_code code = lc_avro_decode(&plan, &in.batch.array, 0, &state, level, &made, &error);
      if (code == LC_INVALID && level > 1) continue; /* this machine lacks the level */
      if (code != LC_OK) abort();
      if (!keyless) check_decoded(&made, &in, last);
      uint64_t sum = summary(&made);
      if (level > 1 && sum != first) abort();
      first = sum;
      lc_decoded_free(&made);
    }
    free(in.values);
    free(in.keys);
  }
  return 0;
}

#include "fuzz_driver.h"

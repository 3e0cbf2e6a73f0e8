/* Hostile bytes into the pgoutput decoder: each message is two bytes of length and its body; the first byte of the
 * input says whether they are streamed.  Whatever is decoded stays inside its columns. */
#include "libcore/pgoutput.h"

#include "common.h"
#include "pgoutput_plan.h"

enum { MESSAGES_MAX = 64 };

static void check_batch(const struct ArrowArray *batch, const lc_pgoutput_relation *relation) {
  for (int32_t c = 0; c < relation->column_count; c++) {
    const struct ArrowArray *child = batch->children[c];
    if (child->length != batch->length || batch->length < 1) abort();
    if (child->n_buffers < 3) continue;
    const int32_t *offsets = child->buffers[1];
    for (int64_t row = 0; row < child->length; row++)
      if (offsets[row + 1] < offsets[row]) abort();
    if (offsets[0] != 0) abort();
    uint64_t sum = 0; /* reads each byte, so that a sanitizer sees one that is not there */
    for (int32_t i = 0; i < offsets[child->length]; i++)
      sum += ((const uint8_t *)child->buffers[2])[i];
    if (sum == UINT64_MAX) abort();
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  int32_t offsets[MESSAGES_MAX + 1] = {0};
  int64_t lsns[MESSAGES_MAX], count = 0;
  uint8_t *bodies = malloc(size ? size : 1);
  if (bodies == NULL || size == 0) {
    free(bodies);
    return 0;
  }
  bool streamed = data[0] & 1;
  for (size_t at = 1; at + 2 <= size && count < MESSAGES_MAX;) {
    size_t length = (size_t)data[at] << 8 | data[at + 1];
    at += 2;
    if (length > size - at) length = size - at;
    memcpy(bodies + offsets[count], data + at, length);
    lsns[count] = 100 + 8 * (count / 2);
    offsets[count + 1] = offsets[count] + (int32_t)length;
    at += length;
    count++;
  }
  uint8_t *exact = malloc((size_t)offsets[count] + 1);
  if (exact == NULL) abort();
  memcpy(exact, bodies, (size_t)offsets[count]);
  free(bodies);
  const void *payload_buffers[3] = {NULL, offsets, exact}, *lsn_buffers[2] = {NULL, lsns}, *none[1] = {NULL};
  struct ArrowArray payloads = {.length = count, .n_buffers = 3, .buffers = payload_buffers};
  struct ArrowArray starts = {.length = count, .n_buffers = 2, .buffers = lsn_buffers};
  struct ArrowArray *children[2] = {&payloads, &starts};
  struct ArrowArray input = {.length = count, .n_buffers = 1, .buffers = none, .n_children = 2, .children = children};
  lc_pgoutput_plan plan = every_pgoutput_plan();
  uint32_t aborted[2] = {3, 8};
  plan.streamed = streamed;
  plan.aborted = aborted;
  plan.aborted_count = 2;
  lc_pgoutput_state state = {.open = streamed, .commit_lsn = 50, .xid = 7};
  for (int64_t start = 0; start <= count;) {
    int64_t changes[3] = {0};
    lc_pgoutput_decoded out;
    lc_error error = {0};
    if (lc_pgoutput_decode(&plan, &input, start, &state, changes, 0, &out, &error) != LC_OK) abort();
    if (out.consumed < start || out.consumed > count || (out.stop == 0) != (out.consumed == count)) abort();
    for (int64_t i = 0; i < out.row_sets; i++)
      check_batch(&out.rows[i].batch, &EVERY_RELATION[out.rows[i].relation]);
    for (int64_t i = 0; i < out.error_count; i++) {
      int64_t message = out.errors[i].message;
      if (message < start || out.errors[i].position < 0 ||
          out.errors[i].position > offsets[message + 1] - offsets[message])
        abort();
    }
    state = out.state;
    start = out.consumed + 1;
    lc_pgoutput_free(&out);
  }
  free(exact);
  return 0;
}

#include "fuzz_driver.h"

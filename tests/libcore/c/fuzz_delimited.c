/* Hostile bytes into the readers of delimited and fixed-width files: all vector levels, and any cut of the file, give
 * the same rows and errors, and errors lie inside the file. */
#include "libcore/delimited.h"

#include "check.h"
#include "delimited_plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint16_t *latin(void) {
  static uint16_t points[256];
  for (int i = 0; i < 256; i++)
    points[i] = (uint16_t)(i == 0x81 ? 65535 : i == 0x80 ? 0x20AC : i);
  return points;
}

typedef struct plans {
  bool fixed;
  lc_delimited_plan delimited;
  lc_fixed_plan width;
} plans;

static lc_code call(const plans *p, const uint8_t *data, size_t size, int final, const lc_text_state *state,
                    int32_t level, struct ArrowArray *out, lc_text_read *read) {
  lc_error error;
  if (p->fixed)
    return lc_fixed_read(&p->width, data, (int64_t)size, final, 1000000, state, level, out, read, &error);
  return lc_delimited_read(&p->delimited, data, (int64_t)size, final, 1000000, state, level, out, read, &error);
}

/* Adds what a call gave to a sum; offsets count from the file's begin. */
static uint64_t summary(uint64_t sum, const struct ArrowArray *out, const lc_text_read *read, int64_t base) {
  for (int64_t i = 0; i < read->error_count; i++) {
    const lc_text_error *e = &read->errors[i];
    sum = sum * 1000003 + (uint64_t)(e->code * 31 + e->line * 7 + e->position + e->offset + base + e->column + e->size);
  }
  for (int64_t row = 0; row < out->length; row++) {
    for (int64_t c = 0; c < out->n_children; c++) {
      const struct ArrowArray *child = out->children[c];
      const int32_t *offsets = child->buffers[1];
      uint64_t word = (uint64_t)lc_is_valid(child, row) + 2;
      if (child->n_buffers == 3) word += (uint64_t)(offsets[row + 1] - offsets[row]) * 5;
      if (c == out->n_children - 2) word += (uint64_t)((const int64_t *)child->buffers[1])[row];
      if (c == out->n_children - 1) word += (uint64_t)(((const int64_t *)child->buffers[1])[row] + base);
      sum = sum * 1000003 + word;
    }
  }
  return sum;
}

/* Rows and errors come one after the other in a sum only where each piece has one record: pieces of a whole file are
 * compared through counts and the state instead. */
typedef struct total {
  int64_t rows, errors, consumed, line;
} total;

static total in_pieces(const plans *p, const uint8_t *data, size_t size, size_t piece) {
  total all = {.line = 1};
  lc_text_state state = {.line = 1};
  size_t at = 0, have = 0;
  for (bool final = false; !final;) {
    have = size - have > piece ? have + piece : size;
    final = have == size;
    struct ArrowArray out;
    lc_text_read read;
    uint8_t *exact = malloc(have - at + 1); /* of its own size, so that a sanitizer sees one byte too far */
    if (exact == NULL) abort();
    memcpy(exact, data + at, have - at);
    lc_code code = call(p, exact, have - at, final, &state, 0, &out, &read);
    if (code != LC_OK) abort();
    state = read.state;
    at += (size_t)read.consumed;
    if (read.consumed < 0 || at > have) abort();
    all.rows += out.length;
    all.errors += read.error_count;
    out.release(&out);
    lc_text_read_free(&read);
    free(exact);
  }
  all.consumed = (int64_t)at;
  all.line = state.line;
  return all;
}

static void check_plan(const plans *p, const uint8_t *data, size_t size) {
  uint64_t first = 0;
  total whole = {0};
  for (int32_t level = 1; level <= 3; level++) {
    lc_text_state state = {.line = 1};
    struct ArrowArray out;
    lc_text_read read;
    lc_code code = call(p, data, size, 1, &state, level, &out, &read);
    if (code == LC_INVALID && level > 1) continue; /* this machine lacks the level */
    if (code != LC_OK || read.consumed != (int64_t)size) abort();
    for (int64_t i = 0; i < read.error_count; i++) {
      const lc_text_error *e = &read.errors[i];
      if (e->offset < 0 || e->size < 0 || e->offset + e->size > (int64_t)size || e->position < 0) abort();
      if (e->position > e->size && e->code != LC_TEXT_QUOTE) abort();
    }
    uint64_t sum = summary(7, &out, &read, 0);
    if (level > 1 && sum != first) abort();
    first = sum;
    whole = (total){out.length, read.error_count, read.consumed, read.state.line};
    out.release(&out);
    lc_text_read_free(&read);
  }
  total cut = in_pieces(p, data, size, 1 + size / 5);
  if (memcmp(&cut, &whole, sizeof cut) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size > 1 << 16) return 0;
  lc_text_column columns[PLAN_COLUMNS];
  plan_columns(columns, 4);
  plans p = {.delimited = plan_delimited(columns)};
  check_plan(&p, data, size);
  p.delimited.escape = '\\';
  p.delimited.c_escapes = p.delimited.lazy_quotes = p.delimited.trailing = p.delimited.quoted_nulls = 1;
  p.delimited.comment = '#';
  p.delimited.encoding = latin();
  p.delimited.record_bytes_max = 30;
  check_plan(&p, data, size);
  p.delimited.fields = 0;
  p.delimited.column_count = 2;
  p.delimited.encoding = NULL;
  check_plan(&p, data, size);
  lc_fixed_kind kind = {columns, PLAN_COLUMNS, NULL, 0, 4 * PLAN_COLUMNS};
  p = (plans){.fixed = true,
              .width = {.kinds = &kind, .kind_count = 1, .record_bytes_max = 60, .characters = 1, .pad_short = 1}};
  check_plan(&p, data, size);
  p.width.record_bytes = 11;
  p.width.characters = 0;
  p.width.ignore_rest = 1;
  check_plan(&p, data, size);
  return 0;
}

#include "fuzz_driver.h"

/* Rows out of the store: records some at a time, column by column, so that each is read from memory once. */
#include "table.h"

enum { STEP = 128, LINE_BYTES = 64 };

/* A batch in the making. */
typedef struct writer {
  const lc_table *table;
  const int32_t *of_column; /* the child of each column, -1: not wanted */
  struct ArrowArray *out;
  lc_buffer *data;     /* by child: the bytes of texts */
  int32_t texts_until; /* texts from here on are not wanted */
  /* The rows in work: all of a record, and what is not the key; that is NULL for a row that was deleted. */
  const uint8_t *records[STEP], *rest[STEP];
} writer;

#define EACH(body)                                    \
  for (int64_t i = 0; i < count; i++, to += width) { \
    const uint8_t *from = rows[i] + field->given;     \
    body;                                             \
  }

static void write_decimal(const lc_field *field, const uint8_t *const *rows, int64_t count, uint8_t *to) {
  size_t width = 16;
  if (field->stored == 8)
    EACH(int64_t words[2] = {lc_load_i64(from)}; words[1] = words[0] >> 63; memcpy(to, words, 16))
  else
    EACH(int64_t words[2] = {lc_load_i32(from)}; words[1] = words[0] >> 63; memcpy(to, words, 16))
}

static void write_fixed(const lc_field *field, const uint8_t *const *rows, int64_t count, uint8_t *to) {
  size_t width = (size_t)field->width;
  switch (width) {
    case 1: EACH(*to = *from) break;
    case 2: EACH(memcpy(to, from, 2)) break;
    case 4: EACH(memcpy(to, from, 4)) break;
    case 8: EACH(memcpy(to, from, 8)) break;
    case 16: EACH(memcpy(to, from, 16)) break;
    default: EACH(memcpy(to, from, width)) break;
  }
}

/* Eight rows a byte; `start` is a multiple of 8. */
static void write_bits(const lc_field *field, const uint8_t *const *rows, int64_t start, int64_t count, uint8_t *valid,
                       uint8_t *values) {
  for (int64_t i = 0; i < count; i += 8) {
    uint8_t nulls = 0, ones = 0;
    for (int64_t k = 0; k < 8 && i + k < count; k++) {
      nulls |= (uint8_t)(lc_field_null(field, rows[i + k]) << k);
      if (values != NULL) ones |= (uint8_t)(rows[i + k][field->given] << k);
    }
    valid[(start + i) >> 3] = (uint8_t)~nulls;
    if (values != NULL) values[(start + i) >> 3] = ones;
  }
}

static void write_values(writer *w, int64_t start, int64_t count) {
  const lc_table *t = w->table;
  for (int32_t c = 0; c < t->column_count; c++) {
    int32_t child = w->of_column[c];
    if (child < 0) continue;
    const lc_field *field = &t->fields[c];
    const uint8_t *const *rows = field->in_key ? w->records : w->rest;
    uint8_t *values = lc_child_values(w->out, child);
    bool is_bool = field->type == LC_TYPE_BOOL;
    write_bits(field, rows, start, count, lc_child_validity(w->out, child), is_bool ? values : NULL);
    if (is_bool || field->variable || field->width == 0) continue;
    if (field->stored < field->width)
      write_decimal(field, rows, count, values + start * field->width);
    else
      write_fixed(field, rows, count, values + start * field->width);
  }
}

/* Copy one text of each row and step each pointer behind it; the buffer has the room. */
static void copy_texts(const lc_field *field, const uint8_t *const *rows, const uint8_t **texts, int64_t count,
                       int32_t *offsets, lc_buffer *data) {
  for (int64_t i = 0; i < count; i++) {
    uint32_t size = lc_load_u32(rows[i] + field->same);
    if (size <= LC_SLACK_BYTES)
      memcpy(data->data + data->size, texts[i], LC_SLACK_BYTES);
    else
      memcpy(data->data + data->size, texts[i], size);
    texts[i] += size;
    data->size += size;
    offsets[i + 1] = (int32_t)data->size;
  }
}

static lc_code write_texts(writer *w, int64_t start, int64_t count, lc_error *error) {
  const lc_table *t = w->table;
  const uint8_t *texts[STEP];
  for (int64_t i = 0; i < count; i++) {
    uint32_t size = lc_text_size(t, w->records[i]);
    texts[i] = size == 0 ? t->nothing : lc_text(t, w->records[i], size);
    if (size > LC_INLINE_BYTES) __builtin_prefetch(texts[i]);
  }
  for (int32_t n = 0; n < w->texts_until; n++) {
    const lc_field *field = &t->fields[t->texts[n]];
    /* Behind the key's texts a deleted row has none: its pointer stays where it is, and nothing is read there. */
    const uint8_t *const *rows = field->in_key ? w->records : w->rest;
    int32_t child = w->of_column[t->texts[n]];
    if (child < 0) {
      for (int64_t i = 0; i < count; i++)
        texts[i] += lc_load_u32(rows[i] + field->same);
      continue;
    }
    size_t total = 0;
    for (int64_t i = 0; i < count; i++)
      total += lc_load_u32(rows[i] + field->same);
    lc_buffer *data = &w->data[child];
    if (data->size + total + LC_SLACK_BYTES > INT32_MAX)
      return lc_fail(error, LC_CAPACITY, start, -1, "column %d: expected at most 2^31-1 bytes in one batch",
                     t->texts[n]);
    if (!lc_buffer_reserve(data, total + LC_SLACK_BYTES))
      return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %zu bytes of column %d", data->size + total,
                     t->texts[n]);
    copy_texts(field, rows, texts, count, (int32_t *)lc_child_values(w->out, child) + start, data);
  }
  return LC_OK;
}

static void prefetch(const lc_table *t, const int64_t *numbers, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    if (numbers[i] < 0) continue;
    const uint8_t *record = lc_record(t, (uint32_t)numbers[i]);
    for (uint32_t at = 0; at < t->record_size && at < 4 * LINE_BYTES; at += LINE_BYTES)
      __builtin_prefetch(record + at);
    __builtin_prefetch(record + t->record_size - 1);
    __builtin_prefetch(lc_flags(t, (uint32_t)numbers[i]));
  }
}

static lc_code write_all(writer *w, const int64_t *numbers, int64_t count, lc_error *error) {
  const lc_table *t = w->table;
  lc_code code = LC_OK;
  prefetch(t, numbers, count < STEP ? count : STEP);
  for (int64_t start = 0; start < count && code == LC_OK; start += STEP) {
    int64_t rows = count - start < STEP ? count - start : STEP, ahead = start + STEP;
    for (int64_t i = 0; i < rows; i++) {
      int64_t number = numbers[start + i];
      w->records[i] = number < 0 ? t->nothing : lc_record(t, (uint32_t)number);
      bool live = number >= 0 && (*lc_flags(t, (uint32_t)number) & LC_ROW_LIVE);
      w->rest[i] = live ? w->records[i] : t->nothing;
    }
    if (ahead < count) prefetch(t, numbers + ahead, count - ahead < STEP ? count - ahead : STEP);
    write_values(w, start, rows);
    if (w->texts_until > 0) code = write_texts(w, start, rows, error);
  }
  return code;
}

/* Hand the texts' bytes over, each block cut to what it holds. */
static lc_code give_texts(writer *w, lc_error *error) {
  const lc_table *t = w->table;
  for (int32_t n = 0; n < w->texts_until; n++) {
    int32_t child = w->of_column[t->texts[n]];
    if (child < 0) continue;
    lc_buffer *data = &w->data[child];
    uint8_t *cut = lc_realloc(data->data, data->size);
    if (cut == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %zu bytes of text", data->size);
    data->data = cut;
    lc_child_give_data(w->out, child, data);
  }
  return LC_OK;
}

lc_code lc_records_write(const lc_table *t, const int64_t *numbers, int64_t count, const int32_t *of_column,
                         const lc_column *layouts, int64_t layout_count, struct ArrowArray *out, lc_error *error) {
  struct ArrowArray batch;
  lc_code code = lc_batch_new(&batch, layouts, layout_count, count, error);
  if (code != LC_OK) return code;
  writer w = {.table = t, .of_column = of_column, .out = &batch};
  for (int32_t n = 0; n < t->text_count; n++)
    if (of_column[t->texts[n]] >= 0) w.texts_until = n + 1;
  w.data = lc_calloc((size_t)layout_count, sizeof *w.data);
  if (w.data == NULL)
    code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)layout_count);
  if (code == LC_OK) code = write_all(&w, numbers, count, error);
  if (code == LC_OK) code = give_texts(&w, error);
  for (int64_t c = 0; w.data != NULL && c < layout_count; c++)
    lc_buffer_free(&w.data[c]);
  lc_free(w.data);
  if (code != LC_OK) {
    batch.release(&batch);
    return code;
  }
  lc_batch_finish(&batch, count);
  *out = batch;
  return LC_OK;
}

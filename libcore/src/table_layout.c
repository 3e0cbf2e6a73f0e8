/* How a row of the store lies in its record, and how the columns of a batch become such records. */
#include "libcore/hash.h"
#include "table.h"

enum { RECORD_MAX = 1 << 24, STEP_MAX = 256, STEP_BYTES = 1 << 16, PAGE_BYTES = 1 << 16, PAGE_SHIFT_MAX = 14 };

/* ---- the layout ---- */

static int32_t stored_bytes(const lc_column *column) {
  if (lc_type_is_variable(column)) return 4;
  if (column->type == LC_TYPE_BOOL) return 1;
  if (column->type == LC_TYPE_DECIMAL128 && column->precision <= 9) return 4;
  if (column->type == LC_TYPE_DECIMAL128 && column->precision <= 18) return 8;
  return lc_type_width(column);
}

static bool is_float(const lc_field *field) {
  return field->type == LC_TYPE_FLOAT32 || field->type == LC_TYPE_FLOAT64;
}

static bool contains(const int32_t *numbers, int32_t count, int32_t number) {
  for (int32_t i = 0; i < count; i++)
    if (numbers[i] == number) return true;
  return false;
}

/* Put fields behind one another from *at on: NULL bits, values, then the sizes of texts. */
static void place_fields(lc_table *t, const int32_t *columns, int32_t count, uint64_t *at) {
  for (int32_t i = 0; i < count; i++) {
    t->fields[columns[i]].null_byte = (uint32_t)(*at + (uint64_t)i / 8);
    t->fields[columns[i]].null_bit = (uint8_t)(i % 8);
  }
  *at += ((uint64_t)count + 7) / 8;
  for (int sizes = 0; sizes <= 1; sizes++)
    for (int32_t i = 0; i < count; i++) {
      lc_field *field = &t->fields[columns[i]];
      if (field->variable != sizes) continue;
      field->same = field->given = (uint32_t)*at; /* checked against RECORD_MAX at the end */
      *at += (uint64_t)field->stored;
      if (sizes) t->texts[t->text_count++] = columns[i];
    }
}

lc_code lc_table_layout(lc_table *t, lc_error *error) {
  int32_t *rest = lc_malloc((size_t)t->column_count * sizeof *rest);
  if (rest == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %d columns", t->column_count);
  int32_t rest_count = 0;
  for (int32_t c = 0; c < t->column_count; c++) {
    const lc_column *column = &t->columns[c];
    t->fields[c] = (lc_field){.type = column->type,
                              .width = lc_type_width(column),
                              .stored = stored_bytes(column),
                              .variable = lc_type_is_variable(column),
                              .in_key = contains(t->key, t->key_count, c)};
    if (!t->fields[c].in_key) rest[rest_count++] = c;
  }
  uint64_t at = t->index_count > 0 ? LC_AT_INDEX_TAG + 4 : LC_AT_NEXT;
  t->key_at = (uint32_t)at;
  place_fields(t, t->key, t->key_count, &at);
  t->key_text_count = t->text_count;
  uint64_t key_end = at;
  place_fields(t, rest, rest_count, &at);
  lc_free(rest);
  for (int32_t c = 0; c < t->column_count; c++) {
    lc_field *field = &t->fields[c];
    if (!is_float(field) || (!field->in_key && !contains(t->index, t->index_count, c))) continue;
    field->given = (uint32_t)at;
    at += (uint64_t)field->stored;
  }
  if (at > RECORD_MAX)
    return lc_fail(error, LC_CAPACITY, -1, -1, "expected at most 2^24 bytes of fixed width in a row, found %llu",
                   (unsigned long long)at);
  t->key_size = (uint32_t)(key_end - t->key_at);
  t->text_at = (uint32_t)at;
  if (t->text_count > 0) at += LC_INLINE_BYTES;
  t->record_size = (uint32_t)((at + 3) & ~(uint64_t)3);
  while (t->page_shift < PAGE_SHIFT_MAX && ((uint64_t)(t->record_size + 3) << (t->page_shift + 1)) <= PAGE_BYTES)
    t->page_shift++;
  t->nothing = lc_calloc((size_t)t->record_size + 2 * LC_SLACK_BYTES, 1);
  if (t->nothing == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for a row of %u bytes", t->record_size);
  for (int32_t c = 0; c < t->column_count; c++)
    t->nothing[t->fields[c].null_byte] |= (uint8_t)(1u << t->fields[c].null_bit);
  return LC_OK;
}

/* ---- rows in ---- */

/* The first row before `before` whose decimal does not fit the bytes it is stored in; `before` where all do. */
static int64_t wide_decimal(const lc_view *view, int32_t stored, int64_t before) {
  for (int64_t row = 0; row < before; row++) {
    const uint8_t *at = view->values + 16 * row;
    int64_t low = lc_load_i64(at), high = lc_load_i64(at + 8);
    bool fits = high == low >> 63 && (stored == 8 || low == (int32_t)low);
    if (!fits && lc_view_valid(view, row)) return row;
  }
  return before;
}

static lc_code check_values(const lc_rows_in *in, lc_error *error) {
  const lc_table *t = in->table;
  int64_t first = in->rows, text_bytes = 0;
  int64_t blamed = -1;
  for (int64_t i = 0; i < in->given_count; i++) {
    const lc_field *field = &t->fields[in->given[i]];
    const lc_view *view = &in->views[in->given[i]];
    if (field->variable) text_bytes += (int64_t)view->offsets[in->rows] - view->offsets[0];
    if (field->type != LC_TYPE_DECIMAL128 || field->stored == field->width) continue;
    int64_t row = wide_decimal(view, field->stored, first);
    if (row < first) blamed = i;
    first = row;
  }
  if (blamed >= 0)
    return lc_fail(error, LC_DATA, first, -1,
                   "column %lld: expected a decimal of at most %d digits, found one above %d bits", (long long)blamed,
                   t->columns[in->given[blamed]].precision, 8 * t->fields[in->given[blamed]].stored);
  for (int64_t row = 0; text_bytes > INT32_MAX && row < in->rows; row++) {
    int64_t size = 0;
    for (int64_t i = 0; i < in->given_count; i++)
      if (t->fields[in->given[i]].variable) size += lc_view_size(&in->views[in->given[i]], row);
    if (size > INT32_MAX)
      return lc_fail(error, LC_CAPACITY, row, -1, "expected at most 2^31-1 bytes of text in a row, found %lld",
                     (long long)size);
  }
  return LC_OK;
}

static uint64_t *hashes_of(const lc_rows_in *in, const struct ArrowArray *batch, const lc_column *layouts,
                           int64_t layout_count, const int32_t *columns, int64_t count, lc_code *code,
                           lc_error *error) {
  if (*code != LC_OK) return NULL;
  uint64_t *hashes = lc_malloc((size_t)in->rows * sizeof *hashes);
  if (hashes == NULL)
    *code = lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory to hash %lld rows", (long long)in->rows);
  else
    *code = lc_hash_rows(batch, layouts, layout_count, columns, count, hashes, error);
  return hashes;
}

lc_code lc_rows_in_make(lc_rows_in *in, const lc_table *t, const struct ArrowArray *batch, lc_given given,
                        int32_t extra, lc_error *error) {
  const lc_column *layouts = given == LC_GIVEN_ROW ? t->columns : given == LC_GIVEN_KEY ? t->key_columns
                                                                                        : t->index_columns;
  *in = (lc_rows_in){.table = t, .given = given == LC_GIVEN_ROW ? t->all : given == LC_GIVEN_KEY ? t->key : t->index};
  in->given_count = given == LC_GIVEN_ROW ? t->column_count : given == LC_GIVEN_KEY ? t->key_count : t->index_count;
  lc_code code = lc_check_batch(batch, layouts, in->given_count + extra, error);
  if (code != LC_OK) return code;
  if (batch->length >= INT32_MAX) return lc_fail(error, LC_INVALID, -1, -1, "expected fewer than 2^31-1 rows");
  in->rows = batch->length;
  if (in->rows == 0) return LC_OK;
  in->step = STEP_BYTES / t->record_size < STEP_MAX ? STEP_BYTES / t->record_size : STEP_MAX;
  if (in->step == 0) in->step = 1;
  if (in->step > in->rows) in->step = in->rows;
  in->views = lc_malloc((size_t)t->column_count * sizeof *in->views);
  in->records = lc_malloc((size_t)in->step * t->record_size);
  if (in->views == NULL || in->records == NULL) {
    lc_rows_in_free(in);
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %d columns of %lld rows", t->column_count,
                   (long long)in->step);
  }
  for (int64_t i = 0; i < in->given_count; i++)
    in->views[in->given[i]] = lc_view_of(batch, layouts, i);
  code = check_values(in, error);
  int64_t count = in->given_count + extra;
  const int32_t *key = given == LC_GIVEN_ROW ? t->key : t->all;
  if (given != LC_GIVEN_INDEX) in->key_hash = hashes_of(in, batch, layouts, count, key, t->key_count, &code, error);
  if (given == LC_GIVEN_ROW)
    in->slot_hash = t->slots_by_key
                        ? in->key_hash
                        : hashes_of(in, batch, layouts, count, t->slot_by, t->slot_by_count, &code, error);
  const int32_t *index = given == LC_GIVEN_ROW ? t->index : t->all;
  if (given != LC_GIVEN_KEY && t->index_count > 0)
    in->index_hash = hashes_of(in, batch, layouts, count, index, t->index_count, &code, error);
  if (code != LC_OK) lc_rows_in_free(in);
  return code;
}

void lc_rows_in_free(lc_rows_in *in) {
  lc_free(in->views);
  lc_free(in->records);
  if (in->slot_hash != in->key_hash) lc_free(in->slot_hash);
  lc_free(in->key_hash);
  lc_free(in->index_hash);
  *in = (lc_rows_in){0};
}

/* Loops over the rows of a step: `from` is the row's value in Arrow, `to` its place in the record. */
#define FILL_WIDTH(bytes)                                          \
  for (int64_t i = 0; i < count; i++, from += width, to += stride) \
  memcpy(to, from, (bytes))

static void fill_fixed(const lc_field *field, const uint8_t *from, int64_t count, uint8_t *to, size_t stride) {
  size_t width = (size_t)field->width;
  switch (field->stored) { /* the low bytes of a decimal that is stored in fewer than it has */
    case 1: FILL_WIDTH(1); break;
    case 2: FILL_WIDTH(2); break;
    case 4: FILL_WIDTH(4); break;
    case 8: FILL_WIDTH(8); break;
    case 16: FILL_WIDTH(16); break;
    default: FILL_WIDTH(width); break;
  }
}

/* -0.0 as 0.0, every NaN as one: what compares as equal gets the same bytes. */
static void fill_float(const lc_field *field, const uint8_t *from, int64_t count, uint8_t *to, size_t stride) {
  for (int64_t i = 0; i < count; i++, from += field->width, to += stride) {
    if (field->width == 4) {
      float value = lc_load_f32(from);
      uint32_t bits = value != value ? 0x7fc00000u : value == 0 ? 0u : lc_load_u32(from);
      memcpy(to, &bits, sizeof bits);
    } else {
      double value = lc_load_f64(from);
      uint64_t bits = value != value ? 0x7ff8000000000000u : value == 0 ? 0u : lc_load_u64(from);
      memcpy(to, &bits, sizeof bits);
    }
  }
}

/* NULLs: the bit is set, and the value is zeros whatever Arrow has there. */
static void fill_nulls(const lc_rows_in *in, const lc_field *field, const lc_view *view, int64_t start, int64_t count,
                       bool whole_row) {
  for (int64_t row = start; row < start + count; row++) {
    if (lc_view_valid(view, row)) continue;
    uint8_t *record = lc_rows_in_record(in, row);
    record[field->null_byte] |= (uint8_t)(1u << field->null_bit);
    memset(record + field->same, 0, (size_t)field->stored);
    if (whole_row) memset(record + field->given, 0, (size_t)field->stored);
  }
}

void lc_rows_in_fill(lc_rows_in *in, int64_t start, int64_t count) {
  const lc_table *t = in->table;
  size_t stride = t->record_size;
  bool whole_row = in->given == t->all;
  in->start = start;
  memset(in->records, 0, stride * (size_t)count);
  for (int64_t g = 0; g < in->given_count; g++) {
    const lc_field *field = &t->fields[in->given[g]];
    const lc_view *view = &in->views[in->given[g]];
    uint8_t *to = in->records + field->same;
    if (field->variable) {
      for (int64_t row = start; row < start + count; row++, to += stride)
        lc_store_u32(to, (uint32_t)lc_view_size(view, row));
    } else if (field->type == LC_TYPE_BOOL) {
      for (int64_t row = start; row < start + count; row++, to += stride)
        *to = lc_view_bool(view, row);
    } else if (field->stored > 0) {
      const uint8_t *from = view->values + start * field->width;
      if (field->given != field->same) fill_float(field, from, count, to, stride);
      if (field->given == field->same || whole_row)
        fill_fixed(field, from, count, in->records + field->given, stride);
    }
    if (view->validity != NULL) fill_nulls(in, field, view, start, count, whole_row);
  }
}

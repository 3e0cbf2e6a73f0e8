/* Columns of the join: borrowed, picked out of two batches, cast, put side by side. */
#include "join_columns.h"

#include "gather.h"

bool lc_borrowed_make(lc_borrowed *batch, int64_t columns, int64_t rows) {
  *batch = (lc_borrowed){0};
  batch->columns = lc_calloc((size_t)columns, sizeof *batch->columns);
  batch->pointers = lc_malloc((size_t)columns * sizeof *batch->pointers);
  if (batch->columns == NULL || batch->pointers == NULL) return false;
  for (int64_t c = 0; c < columns; c++)
    batch->pointers[c] = &batch->columns[c];
  batch->array = (struct ArrowArray){.length = rows, .n_children = columns, .children = batch->pointers};
  return true;
}

void lc_borrowed_free(lc_borrowed *batch) {
  lc_free(batch->columns);
  lc_free(batch->pointers);
  *batch = (lc_borrowed){0};
}

struct ArrowArray lc_column_of(const struct ArrowArray *batch, int64_t c) {
  struct ArrowArray column = *batch->children[c];
  column.offset += batch->offset;
  column.length = batch->length;
  column.release = NULL;
  return column;
}

/* ---- two batches ---- */

static const lc_view *side_of(const lc_view *first, const lc_view *second, int32_t row, int64_t *at) {
  *at = row >= 0 ? row : -2 - (int64_t)row;
  return row >= 0 ? first : second;
}

static lc_code pick_texts(const lc_view *first, const lc_view *second, const int32_t *rows, int64_t count,
                          struct ArrowArray *out, int64_t c, lc_error *error) {
  int32_t *offsets = lc_child_values(out, c);
  int64_t total = 0, at;
  for (int64_t i = 0; i < count; i++) {
    offsets[i] = (int32_t)total;
    if (rows[i] == -1) continue;
    const lc_view *view = side_of(first, second, rows[i], &at);
    total += lc_view_size(view, at);
    if (total > INT32_MAX)
      return lc_fail(error, LC_CAPACITY, i, -1, "column %lld: expected at most 2^31-1 bytes in one batch",
                     (long long)c);
  }
  offsets[count] = (int32_t)total;
  lc_buffer data = {.data = lc_malloc((size_t)total)};
  if (data.data == NULL)
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld bytes of column %lld", (long long)total,
                   (long long)c);
  for (int64_t i = 0; i < count; i++) {
    size_t size = (size_t)(offsets[i + 1] - offsets[i]);
    if (size == 0) continue;
    const lc_view *view = side_of(first, second, rows[i], &at);
    memcpy(data.data + offsets[i], lc_view_bytes(view, at), size);
  }
  lc_child_give_data(out, c, &data);
  return LC_OK;
}

lc_code lc_pick(const lc_view *first, const lc_view *second, const int32_t *rows, int64_t count,
                struct ArrowArray *out, int64_t c, lc_error *error) {
  uint8_t *valid = lc_child_validity(out, c), *values = lc_child_values(out, c);
  for (int64_t i = 0; i < count; i++) {
    int64_t at;
    const lc_view *view = side_of(first, second, rows[i], &at);
    if (rows[i] == -1 || !lc_view_valid(view, at)) {
      lc_bit_clear(valid, i);
    } else if (first->type == LC_TYPE_BOOL) {
      if (lc_view_bool(view, at)) lc_bit_set(values, i);
    } else if (first->width > 0) {
      memcpy(values + i * first->width, view->values + at * first->width, (size_t)first->width);
    }
  }
  return first->offsets == NULL ? LC_OK : pick_texts(first, second, rows, count, out, c, error);
}

/* ---- widths ---- */

static int64_t load_integer(const uint8_t *at, int32_t type) {
  return type == LC_TYPE_INT16 ? lc_load_i16(at) : type == LC_TYPE_INT32 ? lc_load_i32(at) : lc_load_i64(at);
}

lc_code lc_pick_cast(const struct ArrowArray *column, const lc_column *from, const lc_column *to, const int32_t *rows,
                     int64_t count, struct ArrowArray *out, int64_t c, lc_error *error) {
  struct ArrowArray *pointer = (struct ArrowArray *)(uintptr_t)column;
  struct ArrowArray batch = {.length = column->length, .n_children = 1, .children = &pointer};
  lc_view view = lc_view_of(&batch, from, 0);
  if (from->type == to->type) return lc_gather(&view, rows, count, true, out, c, error);
  uint8_t *valid = lc_child_validity(out, c), *values = lc_child_values(out, c);
  int32_t width = lc_type_width(to);
  int64_t most = width == 8 ? INT64_MAX : ((int64_t)1 << (8 * width - 1)) - 1;
  for (int64_t i = 0; i < count; i++) {
    int64_t value = rows[i] < 0 || !lc_view_valid(&view, rows[i])
                        ? 0
                        : load_integer(view.values + (int64_t)rows[i] * view.width, view.type);
    if (rows[i] < 0 || !lc_view_valid(&view, rows[i]) || value > most || value < -most - 1)
      lc_bit_clear(valid, i);
    else if (width == 2)
      memcpy(values + 2 * i, &(int16_t){(int16_t)value}, 2);
    else if (width == 4)
      memcpy(values + 4 * i, &(int32_t){(int32_t)value}, 4);
    else
      memcpy(values + 8 * i, &value, 8);
  }
  return LC_OK;
}

/* ---- side by side ---- */

void lc_child_nulls(struct ArrowArray *batch, int64_t c, int64_t rows) {
  memset(lc_child_validity(batch, c), 0, (size_t)LC_BITMAP_BYTES(rows));
}

lc_code lc_parts_join(struct ArrowArray *out, int64_t rows, const lc_part *parts, int64_t part_count,
                      lc_error *error) {
  int64_t columns = 0;
  for (int64_t p = 0; p < part_count; p++)
    columns += parts[p].count;
  struct ArrowArray whole;
  lc_code code = lc_batch_new(&whole, NULL, 0, rows, error); /* its release takes any children that lc_malloc made */
  if (code != LC_OK) return code;
  struct ArrowArray **children = lc_calloc((size_t)columns, sizeof *children);
  bool good = children != NULL;
  for (int64_t c = 0; good && c < columns; c++)
    good = (children[c] = lc_calloc(1, sizeof **children)) != NULL;
  if (children != NULL) {
    lc_free(whole.children);
    whole.children = children;
    whole.n_children = columns;
  }
  if (!good) {
    lc_release(&whole);
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)columns);
  }
  for (int64_t p = 0, at = 0; p < part_count; p++) {
    for (int64_t c = 0; c < parts[p].count; c++, at++) {
      struct ArrowArray *from = parts[p].from->children[parts[p].first + c];
      bool all = parts[p].start == 0 && parts[p].from->offset == 0 && from->length == rows;
      *whole.children[at] = *from;
      whole.children[at]->offset += parts[p].start + parts[p].from->offset;
      whole.children[at]->length = rows;
      if (!all && from->null_count != 0) whole.children[at]->null_count = -1;
      from->release = NULL;
    }
  }
  for (int64_t p = 0; p < part_count; p++)
    lc_release(parts[p].from);
  *out = whole;
  return LC_OK;
}

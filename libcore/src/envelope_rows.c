/* The rows being built: growing column buffers, what a row lacks, and the finished Arrow arrays. */
#include "envelope_internal.h"

static bool grow(void **memory, size_t old_size, size_t new_size, uint8_t fill) {
  uint8_t *grown = lc_realloc(*memory, new_size);
  if (grown == NULL) return false;
  memset(grown + old_size, fill, new_size - old_size);
  *memory = grown;
  return true;
}

static size_t column_bytes(const lc_decode_column *column, int64_t rows) {
  if (column->variable) return ((size_t)rows + 1) * 4;
  return column->wire->type == LC_TYPE_BOOL ? (size_t)LC_BITMAP_BYTES(rows) : (size_t)rows * (size_t)column->width;
}

/* Fresh memory by calloc, which costs nothing until a page is touched. */
static bool renew(void **memory, size_t old_size, size_t new_size) {
  if (*memory != NULL) return grow(memory, old_size, new_size, 0);
  return (*memory = lc_calloc(new_size, 1)) != NULL;
}

static bool rows_resize(lc_decoder *d, int64_t capacity) {
  size_t old = (size_t)d->capacity, now = (size_t)capacity;
  bool good = true;
  for (int32_t c = 0; good && c < d->column_count; c++) {
    lc_decode_column *column = &d->columns[c];
    size_t old_bytes = column->values == NULL ? 0 : column_bytes(column, d->capacity);
    good = renew((void **)&column->values, old_bytes, column_bytes(column, capacity)) &&
           grow((void **)&column->validity, LC_BITMAP_BYTES(old), LC_BITMAP_BYTES(now), 0xff);
  }
  good = good && renew((void **)&d->ops, old, now) && renew((void **)&d->positions, old * 32, now * 32) &&
         renew((void **)&d->ts, old * 8, now * 8) && renew((void **)&d->messages, old * 4, now * 4) &&
         grow((void **)&d->ts_validity, LC_BITMAP_BYTES(old), LC_BITMAP_BYTES(now), 0xff);
  if (good && d->plan->transactions)
    good = renew((void **)&d->tx_offsets, d->tx_offsets == NULL ? 0 : (old + 1) * 4, (now + 1) * 4) &&
           renew((void **)&d->tx_orders, old * 8, now * 8) &&
           grow((void **)&d->tx_validity, LC_BITMAP_BYTES(old), LC_BITMAP_BYTES(now), 0xff) &&
           grow((void **)&d->tx_order_validity, LC_BITMAP_BYTES(old), LC_BITMAP_BYTES(now), 0xff);
  if (good && d->unset != NULL)
    good = grow((void **)&d->unset, old * (size_t)d->unset_width, now * (size_t)d->unset_width, 0);
  if (good)
    d->capacity = capacity;
  else
    lc_decoder_fails(d, LC_NO_MEMORY); /* buffers that grew are larger than d->capacity says, which is harmless */
  return good;
}

bool lc_rows_init(lc_decoder *d, int64_t capacity) {
  d->unset_width = (d->column_count + 7) / 8;
  return rows_resize(d, capacity);
}

bool lc_rows_reserve(lc_decoder *d, int64_t more) {
  if (d->rows + more <= d->capacity) return true;
  if (d->rows + more >= INT32_MAX) {
    lc_decoder_fails(d, LC_CAPACITY);
    return false;
  }
  int64_t capacity = d->capacity + d->capacity / 2 + more;
  return rows_resize(d, capacity >= INT32_MAX ? INT32_MAX - 1 : capacity);
}

void lc_rows_undo(lc_decoder *d, int64_t row, int64_t count) {
  for (int32_t c = 0; c < d->column_count; c++) {
    lc_decode_column *column = &d->columns[c];
    for (int64_t r = row; r < row + count && r < d->capacity; r++) {
      lc_bit_set(column->validity, r);
      if (column->width > 0) memset(column->values + r * column->width, 0, (size_t)column->width);
    }
    if (column->variable) column->data.size = (size_t)((int32_t *)(void *)column->values)[row];
  }
  if (d->unset != NULL) memset(d->unset + row * d->unset_width, 0, (size_t)(count * d->unset_width));
}

static void mark_unset(lc_decoder *d, int64_t row, int32_t c) {
  if (d->unset == NULL) {
    d->unset = lc_calloc((size_t)d->capacity, (size_t)d->unset_width);
    if (d->unset == NULL) {
      lc_decoder_fails(d, LC_NO_MEMORY);
      return;
    }
  }
  lc_bit_set(d->unset + row * d->unset_width, c);
}

void lc_rows_fill(lc_decoder *d, int64_t row, bool missing_is_unset) {
  for (int32_t c = 0; c < d->column_count; c++) {
    lc_decode_column *column = &d->columns[c];
    bool missing = column->seen != d->walk;
    if (missing) lc_cell_null(column, row);
    if (missing_is_unset && (missing || column->unset)) mark_unset(d, row, c);
  }
}

void lc_row_transaction(lc_decoder *d, int64_t row) {
  if (!d->within.has_id)
    lc_bit_clear(d->tx_validity, row);
  else if (d->tx_id.size > 0 && !lc_buffer_append(&d->tx_data, d->tx_id.data, d->tx_id.size))
    lc_decoder_fails(d, d->tx_data.size + d->tx_id.size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
  d->tx_offsets[row + 1] = (int32_t)d->tx_data.size;
  if (d->within.has_order)
    d->tx_orders[row] = d->within.order;
  else
    lc_bit_clear(d->tx_order_validity, row);
}

bool lc_row_keys_differ(const lc_decoder *d, int64_t a, int64_t b) {
  for (int32_t c = 0; c < d->column_count; c++) {
    const lc_decode_column *column = &d->columns[c];
    if (!column->is_key) continue;
    if (column->variable) {
      const int32_t *offsets = (const int32_t *)(const void *)column->values;
      int32_t size = offsets[a + 1] - offsets[a];
      if (size != offsets[b + 1] - offsets[b]) return true;
      if (size > 0 && memcmp(column->data.data + offsets[a], column->data.data + offsets[b], (size_t)size) != 0)
        return true;
    } else if (column->width == 0) {
      if (lc_bit_get(column->values, a) != lc_bit_get(column->values, b)) return true;
    } else if (memcmp(column->values + a * column->width, column->values + b * column->width, (size_t)column->width) !=
               0) {
      return true;
    }
  }
  return false;
}

static void give(struct ArrowArray *batch, int64_t c, int64_t buffer, void *memory) {
  lc_free((void *)(uintptr_t)batch->children[c]->buffers[buffer]);
  batch->children[c]->buffers[buffer] = memory;
}

/* Hand `size` bytes of a buffer over, without the part that was never used. */
static void *shrunk(void *memory, size_t size) {
  void *smaller = lc_realloc(memory, size);
  return smaller == NULL ? memory : smaller;
}

static bool validity_ones(struct ArrowArray *batch, int64_t c, int64_t rows) {
  uint8_t *bits = lc_malloc(LC_BITMAP_BYTES((size_t)rows));
  if (bits == NULL) return false;
  memset(bits, 0xff, LC_BITMAP_BYTES((size_t)rows));
  give(batch, c, 0, bits);
  return true;
}

/* Rows that were undone may have left no bit at all: then the batch has no such column. */
static void unset_settle(lc_decoder *d) {
  size_t size = (size_t)d->rows * (size_t)d->unset_width, i = 0;
  if (d->unset == NULL) return;
  while (i < size && d->unset[i] == 0)
    i++;
  if (i < size) return;
  lc_free(d->unset);
  d->unset = NULL;
}

/* The rows' transactions as the columns from `first` on. */
static void transactions_give(lc_decoder *d, struct ArrowArray *batch, int64_t first) {
  size_t rows = (size_t)d->rows;
  give(batch, first, 0, shrunk(d->tx_validity, LC_BITMAP_BYTES(rows)));
  give(batch, first, 1, shrunk(d->tx_offsets, (rows + 1) * 4));
  if (d->tx_data.data != NULL) lc_child_give_data(batch, first, &d->tx_data);
  give(batch, first + 1, 0, shrunk(d->tx_order_validity, LC_BITMAP_BYTES(rows)));
  give(batch, first + 1, 1, shrunk(d->tx_orders, rows * 8));
  d->tx_validity = d->tx_order_validity = NULL;
  d->tx_offsets = NULL;
  d->tx_orders = NULL;
}

lc_code lc_rows_finish(lc_decoder *d, lc_decoded *out, lc_error *error) {
  unset_settle(d);
  int64_t plain = d->column_count + 3 + (d->unset != NULL), count = plain + (d->plan->transactions ? 2 : 0);
  lc_column *layouts = lc_calloc((size_t)count, sizeof *layouts);
  if (layouts == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)count);
  for (int32_t c = 0; c < d->column_count; c++) {
    const lc_wire_column *wire = d->columns[c].wire;
    layouts[c] = (lc_column){wire->type, 0, wire->precision, wire->scale};
  }
  layouts[d->column_count] = (lc_column){.type = LC_TYPE_INT8};
  layouts[d->column_count + 1] = (lc_column){.type = LC_TYPE_FIXED, .width = 32};
  layouts[d->column_count + 2] = (lc_column){.type = LC_TYPE_TIMESTAMP};
  if (d->unset != NULL) layouts[d->column_count + 3] = (lc_column){.type = LC_TYPE_FIXED, .width = d->unset_width};
  if (count > plain) {
    layouts[plain] = (lc_column){.type = LC_TYPE_UTF8};
    layouts[plain + 1] = (lc_column){.type = LC_TYPE_INT64};
  }
  struct ArrowArray *batch = &out->batch;
  lc_code code = lc_batch_new(batch, layouts, count, 0, error);
  lc_free(layouts);
  if (code != LC_OK) return code;
  int64_t base = d->column_count;
  size_t rows = (size_t)d->rows;
  bool good = validity_ones(batch, base, d->rows) && validity_ones(batch, base + 1, d->rows) &&
              (d->unset == NULL || validity_ones(batch, base + 3, d->rows));
  if (!good) {
    batch->release(batch);
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for the validity of %lld rows", (long long)d->rows);
  }
  for (int32_t c = 0; c < d->column_count; c++) {
    lc_decode_column *column = &d->columns[c];
    give(batch, c, 0, shrunk(column->validity, LC_BITMAP_BYTES(rows)));
    give(batch, c, 1, shrunk(column->values, column_bytes(column, d->rows)));
    if (column->variable && column->data.data != NULL) {
      column->data.data = shrunk(column->data.data, column->data.size);
      lc_child_give_data(batch, c, &column->data);
    }
    column->validity = column->values = NULL;
  }
  give(batch, base, 1, shrunk(d->ops, rows));
  give(batch, base + 1, 1, shrunk(d->positions, rows * 32));
  give(batch, base + 2, 0, shrunk(d->ts_validity, LC_BITMAP_BYTES(rows)));
  give(batch, base + 2, 1, shrunk(d->ts, rows * 8));
  if (d->unset != NULL) give(batch, base + 3, 1, shrunk(d->unset, rows * (size_t)d->unset_width));
  if (count > plain) transactions_give(d, batch, plain);
  out->has_unset = d->unset != NULL;
  d->ops = d->positions = d->ts_validity = d->unset = NULL;
  d->ts = NULL;
  lc_batch_finish(batch, d->rows);
  out->rows = d->messages;
  out->row_count = d->rows;
  d->messages = NULL;
  return LC_OK;
}

void lc_rows_free(lc_decoder *d) {
  for (int32_t c = 0; d->columns != NULL && c < d->column_count; c++) {
    lc_free(d->columns[c].values);
    lc_free(d->columns[c].validity);
    lc_buffer_free(&d->columns[c].data);
  }
  lc_free(d->ops);
  lc_free(d->positions);
  lc_free(d->ts_validity);
  lc_free(d->unset);
  lc_free(d->ts);
  lc_free(d->messages);
  lc_free(d->tx_offsets);
  lc_free(d->tx_orders);
  lc_free(d->tx_validity);
  lc_free(d->tx_order_validity);
  lc_buffer_free(&d->tx_data);
}

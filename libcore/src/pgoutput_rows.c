/* The rows of each relation being built: growing buffers, and the finished Arrow batches. */
#include "group.h"
#include "pgoutput_internal.h"

enum { FIRST_ROWS = 64 };

static bool no_memory(lc_pg_decoder *d) {
  d->failed = LC_NO_MEMORY;
  return false;
}

static size_t value_bytes(const lc_pg_builder_column *c, size_t rows) {
  if (c->variable) return (rows + 1) * 4;
  return c->column->type == LC_TYPE_BOOL ? LC_BITMAP_BYTES(rows) : rows * (size_t)c->width;
}

/* From `old_size` bytes (0: none yet) to `size`, the new ones `fill`. */
static bool grow(void *memory_address, size_t old_size, size_t size, uint8_t fill) {
  uint8_t *memory;
  memcpy(&memory, memory_address, sizeof memory);
  if (memory == NULL && fill == 0) {
    memory = lc_calloc(size, 1); /* costs nothing until a page is touched */
    if (memory == NULL) return false;
  } else {
    memory = lc_realloc(memory, size);
    if (memory == NULL) return false;
    memset(memory + old_size, fill, size - old_size);
  }
  memcpy(memory_address, &memory, sizeof memory);
  return true;
}

static bool resize(lc_pg_decoder *d, lc_pg_builder *b, size_t rows) {
  size_t old = (size_t)b->capacity, bits = LC_BITMAP_BYTES(old);
  bool good = grow(&b->ops, old, rows, 0) && grow(&b->positions, old * 32, rows * 32, 0) &&
              grow(&b->ts, old * 8, rows * 8, 0);
  for (int32_t i = 0; good && i < b->relation->column_count; i++) {
    lc_pg_builder_column *c = &b->columns[i];
    good = grow(&c->values, c->values == NULL ? 0 : value_bytes(c, old), value_bytes(c, rows), 0) &&
           grow(&c->validity, bits, LC_BITMAP_BYTES(rows), 0xff);
  }
  if (good && b->unset != NULL)
    good = grow(&b->unset, old * (size_t)b->unset_width, rows * (size_t)b->unset_width, 0);
  if (good && d->plan->transactions)
    good = grow(&b->tx_offsets, b->tx_offsets == NULL ? 0 : (old + 1) * 4, (rows + 1) * 4, 0) &&
           grow(&b->tx_orders, old * 8, rows * 8, 0);
  if (!good) return no_memory(d); /* what grew is larger than b->capacity says, which is harmless */
  b->capacity = (int64_t)rows;
  return true;
}

bool lc_pg_rows_reserve(lc_pg_decoder *d, lc_pg_builder *b, int64_t more) {
  if (b->rows + more <= b->capacity) return true;
  if (b->rows + more >= INT32_MAX) {
    d->failed = LC_CAPACITY;
    return false;
  }
  int64_t rows = b->capacity * 2 + more;
  return resize(d, b, (size_t)(rows >= INT32_MAX ? INT32_MAX - 1 : rows));
}

static bool begin(lc_pg_decoder *d, lc_pg_builder *b) {
  const lc_pgoutput_relation *r = b->relation;
  lc_pg_builder_column *columns = lc_calloc((size_t)r->column_count, sizeof *columns);
  if (columns == NULL) return no_memory(d);
  b->columns = columns;
  b->unset_width = (r->column_count + 7) / 8;
  for (int32_t i = 0; i < r->column_count; i++) {
    lc_column layout = {r->columns[i].type, 0, r->columns[i].precision, r->columns[i].scale};
    columns[i].column = &r->columns[i];
    columns[i].width = lc_type_width(&layout);
    columns[i].variable = lc_type_is_variable(&layout);
    if (layout.type == LC_TYPE_DECIMAL128 || layout.type == LC_TYPE_DECIMAL256)
      columns[i].decimal =
          lc_decimal_target_make(layout.precision, layout.scale, layout.type == LC_TYPE_DECIMAL256);
    b->key_count += r->columns[i].is_key != 0;
  }
  int32_t filled = 0;
  for (int32_t i = 0; i < r->wire_count; i++) {
    if (r->wire[i].column < 0) continue;
    columns[r->wire[i].column].filled = true;
    filled++;
  }
  b->lacks = filled < r->column_count;
  /* the first relation is often the only one: it gets room for all that is left, which costs nothing untouched */
  int64_t left = d->message_count - d->message + 1;
  return resize(d, b, (size_t)(d->used_count == 0 && left > FIRST_ROWS ? left : FIRST_ROWS));
}

lc_pg_builder *lc_pg_builder_get(lc_pg_decoder *d, int32_t relation) {
  lc_pg_builder *b = &d->builders[relation];
  if (LC_LIKELY(b->columns != NULL)) return b;
  b->relation = &d->plan->relations[relation];
  return begin(d, b) ? b : NULL;
}

void lc_pg_rows_undo(lc_pg_builder *b) {
  for (int32_t i = 0; i < b->relation->column_count; i++) {
    lc_pg_builder_column *c = &b->columns[i];
    for (int64_t row = b->rows; row < b->rows + 2 && row < b->capacity; row++) {
      lc_bit_set(c->validity, row);
      if (c->width > 0) memset(c->values + row * c->width, 0, (size_t)c->width);
    }
    if (c->variable) c->data.size = (size_t)((int32_t *)(void *)c->values)[b->rows];
  }
  if (b->unset == NULL) return;
  for (int64_t row = b->rows; row < b->rows + 2 && row < b->capacity; row++)
    memset(b->unset + row * b->unset_width, 0, (size_t)b->unset_width);
}

bool lc_pg_mark_unset(lc_pg_decoder *d, lc_pg_builder *b, int64_t row, int32_t column) {
  if (b->unset == NULL) {
    b->unset = lc_calloc((size_t)b->capacity, (size_t)b->unset_width);
    if (b->unset == NULL) return no_memory(d);
  }
  lc_bit_set(b->unset + row * b->unset_width, column);
  return true;
}

bool lc_pg_keys_differ(const lc_pg_builder *b, int64_t row, int64_t other) {
  for (int32_t i = 0; i < b->relation->column_count; i++) {
    const lc_pg_builder_column *c = &b->columns[i];
    if (!c->column->is_key) continue;
    if (c->variable) {
      const int32_t *offsets = (const int32_t *)(const void *)c->values;
      int32_t size = offsets[row + 1] - offsets[row];
      if (size != offsets[other + 1] - offsets[other]) return true;
      if (size > 0 && memcmp(c->data.data + offsets[row], c->data.data + offsets[other], (size_t)size) != 0)
        return true;
    } else if (c->width == 0) {
      if (lc_bit_get(c->values, row) != lc_bit_get(c->values, other)) return true;
    } else if (memcmp(c->values + row * c->width, c->values + other * c->width, (size_t)c->width) != 0) {
      return true;
    }
  }
  return false;
}

bool lc_pg_row_commit(lc_pg_decoder *d, lc_pg_builder *b, int32_t relation, int8_t op, const uint8_t position[32]) {
  int64_t row = b->rows;
  b->ops[row] = (uint8_t)op;
  memcpy(b->positions + row * 32, position, 32);
  memcpy(d->state.after, position, 32);
  b->ts[row] = d->state.commit_us;
  if (d->plan->transactions) {
    if (!lc_buffer_append(&b->tx_data, d->tx, (size_t)d->tx_size)) {
      d->failed = b->tx_data.size + (size_t)d->tx_size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY;
      return false;
    }
    b->tx_offsets[row + 1] = (int32_t)b->tx_data.size;
    b->tx_orders[row] = d->changes[relation];
  }
  if (row == 0) d->used[d->used_count++] = relation;
  b->rows++;
  return true;
}

static void give(struct ArrowArray *batch, int64_t c, int64_t buffer, void *memory, size_t size) {
  void *smaller = lc_realloc(memory, size); /* without the part that was never used */
  lc_free((void *)(uintptr_t)batch->children[c]->buffers[buffer]);
  batch->children[c]->buffers[buffer] = smaller == NULL ? memory : smaller;
}

static bool give_ones(struct ArrowArray *batch, int64_t c, size_t rows) {
  uint8_t *bits = lc_malloc(LC_BITMAP_BYTES(rows));
  if (bits == NULL) return false;
  memset(bits, 0xff, LC_BITMAP_BYTES(rows));
  lc_free((void *)(uintptr_t)batch->children[c]->buffers[0]);
  batch->children[c]->buffers[0] = bits;
  return true;
}

static lc_code batch_new(lc_pg_builder *b, bool transactions, struct ArrowArray *batch, lc_error *error) {
  const lc_pgoutput_relation *r = b->relation;
  int64_t count = r->column_count + 3 + (b->unset != NULL) + 2 * transactions, at = r->column_count;
  lc_column *layouts = lc_calloc((size_t)count, sizeof *layouts);
  if (layouts == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)count);
  for (int32_t i = 0; i < r->column_count; i++)
    layouts[i] = (lc_column){r->columns[i].type, 0, r->columns[i].precision, r->columns[i].scale};
  layouts[at++] = (lc_column){.type = LC_TYPE_INT8};
  layouts[at++] = (lc_column){.type = LC_TYPE_FIXED, .width = 32};
  layouts[at++] = (lc_column){.type = LC_TYPE_TIMESTAMP};
  if (b->unset != NULL) layouts[at++] = (lc_column){.type = LC_TYPE_FIXED, .width = b->unset_width};
  if (transactions) {
    layouts[at++] = (lc_column){.type = LC_TYPE_UTF8};
    layouts[at++] = (lc_column){.type = LC_TYPE_INT64};
  }
  lc_code code = lc_batch_new(batch, layouts, count, 0, error);
  lc_free(layouts);
  return code;
}

static lc_code finish(lc_pg_builder *b, bool transactions, struct ArrowArray *batch, lc_error *error) {
  lc_code code = batch_new(b, transactions, batch, error);
  if (code != LC_OK) return code;
  int64_t at = b->relation->column_count;
  size_t rows = (size_t)b->rows;
  for (int64_t c = at; c < batch->n_children; c++) {
    if (!give_ones(batch, c, rows)) {
      batch->release(batch);
      return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for the validity of %lld rows", (long long)b->rows);
    }
  }
  for (int32_t i = 0; i < b->relation->column_count; i++) {
    lc_pg_builder_column *c = &b->columns[i];
    give(batch, i, 0, c->validity, LC_BITMAP_BYTES(rows));
    give(batch, i, 1, c->values, value_bytes(c, rows));
    c->values = c->validity = NULL;
    if (c->variable && c->data.data != NULL) lc_child_give_data(batch, i, &c->data);
  }
  give(batch, at++, 1, b->ops, rows);
  give(batch, at++, 1, b->positions, rows * 32);
  give(batch, at++, 1, b->ts, rows * 8);
  if (b->unset != NULL) give(batch, at++, 1, b->unset, rows * (size_t)b->unset_width);
  if (transactions) {
    give(batch, at, 1, b->tx_offsets, (rows + 1) * 4);
    lc_child_give_data(batch, at, &b->tx_data);
    give(batch, at + 1, 1, b->tx_orders, rows * 8);
  }
  b->ops = b->positions = b->unset = NULL;
  b->ts = b->tx_orders = NULL;
  b->tx_offsets = NULL;
  lc_batch_finish(batch, b->rows);
  return LC_OK;
}

/* An __unset column whose bits were all undone is left out. */
static void settle_unset(lc_pg_builder *b) {
  size_t size = (size_t)b->rows * (size_t)b->unset_width, i = 0;
  if (b->unset == NULL) return;
  while (i < size && b->unset[i] == 0)
    i++;
  if (i < size) return;
  lc_free(b->unset);
  b->unset = NULL;
}

lc_code lc_pg_rows_finish(lc_pg_decoder *d, lc_error *error) {
  d->out->rows = lc_calloc((size_t)d->used_count, sizeof *d->out->rows);
  if (d->out->rows == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %d batches", d->used_count);
  for (int32_t i = 0; i < d->used_count; i++) {
    lc_pg_builder *b = &d->builders[d->used[i]];
    settle_unset(b);
    d->out->rows[i].has_unset = b->unset != NULL;
    d->out->rows[i].relation = d->used[i];
    lc_code code = finish(b, d->plan->transactions != 0, &d->out->rows[i].batch, error);
    if (code != LC_OK) return code;
    d->out->row_sets++;
  }
  return LC_OK;
}

void lc_pg_rows_free(lc_pg_decoder *d) {
  for (int32_t r = 0; d->builders != NULL && r < d->plan->relation_count; r++) {
    lc_pg_builder *b = &d->builders[r];
    for (int32_t i = 0; b->columns != NULL && i < b->relation->column_count; i++) {
      lc_free(b->columns[i].values);
      lc_free(b->columns[i].validity);
      lc_buffer_free(&b->columns[i].data);
    }
    lc_free(b->columns);
    lc_free(b->ops);
    lc_free(b->positions);
    lc_free(b->unset);
    lc_free(b->ts);
    lc_free(b->tx_orders);
    lc_free(b->tx_offsets);
    lc_buffer_free(&b->tx_data);
  }
  lc_free(d->builders);
}

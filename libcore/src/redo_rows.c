/* Statements to rows: an update laid over its old row, keys that change, what a row must have. */
#include "redo_internal.h"

enum { OP_UPSERT = 1, OP_DELETE = 2, OP_INSERT = 6 };

/* Remember the value fault with the smallest position. */
static void value_fault(lc_redo_parser *r, int32_t code, int64_t position, int32_t column) {
  if (r->fault.code == 0 || position < r->fault.position) r->fault = (lc_redo_slip){code, column, position};
}

static void row_start(lc_redo_parser *r, int64_t row, int64_t input_row, int8_t op, bool before) {
  r->ops[row] = op;
  r->row_of[row] = (int32_t)input_row;
  if (before)
    lc_bit_set(r->before, row);
  else
    lc_bit_clear(r->before, row);
  lc_bit_clear(r->unavailable, row);
  memset(r->unset + row * r->unset_width, 0, (size_t)r->unset_width);
}

static void cell_write(lc_redo_parser *r, int64_t row, int32_t c, const lc_redo_literal *literal, bool is_new,
                       const uint8_t *start) {
  lc_redo_cells *column = &r->cells[c];
  uint8_t *unset = r->unset + row * r->unset_width;
  if (literal->kind == REDO_ABSENT) {
    lc_redo_cell_null(column, row);
    lc_bit_set(unset, c);
    return;
  }
  const uint8_t *at;
  int code = lc_redo_cell(column, row, literal, &r->reading, &at);
  if (code == LC_REDO_KEPT) return;
  if (code == LC_REDO_NO_MEMORY) {
    int64_t most = (literal->end - literal->start) + LC_NUMERIC_DIGITS_MAX;
    bool full = (int64_t)column->data.size + most > INT32_MAX;
    if (r->failed == LC_OK) r->failed = full ? LC_CAPACITY : LC_NO_MEMORY;
  } else if (code > 0) {
    value_fault(r, code, at - start, c);
  } else {
    lc_bit_set(unset, c);
    if (code == LC_REDO_LOST && is_new) lc_bit_set(r->unavailable, row);
    return;
  }
  lc_redo_cell_null(column, row);
}

/* The row behind `where`; `keys` alone: the others are NULL, and not unset. */
static void old_row(lc_redo_parser *r, int64_t row, bool keys, const uint8_t *start) {
  for (int32_t c = 0; c < r->plan->column_count; c++) {
    if (keys && !r->plan->columns[c].is_key)
      lc_redo_cell_null(&r->cells[c], row);
    else
      cell_write(r, row, c, &r->statement.before[c], false, start);
  }
}

/* The row that an insert or an update leaves. */
static void new_row(lc_redo_parser *r, int64_t row, const uint8_t *start) {
  for (int32_t c = 0; c < r->plan->column_count; c++) {
    const lc_redo_literal *own = &r->statement.after[c], *old = &r->statement.before[c];
    bool is_new = own->kind != REDO_ABSENT;
    cell_write(r, row, c, is_new ? own : old, is_new, start);
  }
}

void lc_redo_rows_undo(lc_redo_parser *r) {
  for (int32_t c = 0; c < r->plan->column_count; c++)
    if (r->cells[c].variable)
      r->cells[c].data.size = (size_t)((const int32_t *)(const void *)r->cells[c].values)[r->rows];
}

static bool row_unset(const lc_redo_parser *r, int64_t row, int32_t c) {
  return lc_bit_get(r->unset + row * r->unset_width, c);
}

/* What the row must have: with key columns those, without any of them all columns.  It is judged behind value faults,
 * and only where no earlier row of the statement lacked anything. */
static void row_judge(lc_redo_parser *r, int64_t row) {
  if (r->plan->images) return;
  for (int32_t c = 0; c < r->plan->column_count && r->fault.code == 0; c++) {
    if (r->has_key ? r->plan->columns[c].is_key && !lc_bit_get(r->cells[c].validity, row) : row_unset(r, row, c))
      r->fault = (lc_redo_slip){r->has_key ? LC_ROW_KEY : LC_ROW_BEFORE, c, 0};
  }
}

/* Whether an update's key is, letter by letter, that behind `where`. */
static bool key_kept(const lc_redo_parser *r) {
  for (int32_t c = 0; c < r->plan->column_count; c++) {
    const lc_redo_literal *own = &r->statement.after[c], *old = &r->statement.before[c];
    if (!r->plan->columns[c].is_key) continue;
    if (old->kind == REDO_ABSENT) return false;
    if (own->kind == REDO_ABSENT) continue;
    size_t size = (size_t)(own->end - own->start);
    if (own->kind != old->kind || own->json != old->json || size != (size_t)(old->end - old->start) ||
        memcmp(own->start, old->start, size) != 0)
      return false;
  }
  return true;
}

static bool cells_equal(const lc_redo_cells *column, int64_t a, int64_t b) {
  const uint8_t *values = column->values;
  if (column->variable) {
    const int32_t *offsets = (const int32_t *)(const void *)values;
    size_t size = (size_t)(offsets[a + 1] - offsets[a]);
    return size == (size_t)(offsets[b + 1] - offsets[b]) &&
           (size == 0 || memcmp(column->data.data + offsets[a], column->data.data + offsets[b], size) == 0);
  }
  if (column->width == 0) return lc_bit_get(values, a) == lc_bit_get(values, b);
  return memcmp(values + a * column->width, values + b * column->width, (size_t)column->width) == 0;
}

static bool keys_equal(const lc_redo_parser *r, int64_t a, int64_t b) {
  for (int32_t c = 0; c < r->plan->column_count; c++)
    if (r->plan->columns[c].is_key && !cells_equal(&r->cells[c], a, b)) return false;
  return true;
}

/* The rows of an update behind those kept; their count. */
static int64_t update_rows(lc_redo_parser *r, int64_t input_row, const uint8_t *start) {
  int64_t row = r->rows;
  bool whole = r->plan->images || !r->has_key;
  if (!whole && key_kept(r)) {
    row_start(r, row, input_row, OP_UPSERT, false);
    new_row(r, row, start);
    row_judge(r, row);
    return 1;
  }
  row_start(r, row, input_row, OP_DELETE, true);
  old_row(r, row, !whole, start);
  row_start(r, row + 1, input_row, OP_UPSERT, false);
  new_row(r, row + 1, start);
  row_judge(r, row);
  row_judge(r, row + 1);
  if (whole || r->fault.code != 0 || r->failed != LC_OK || !keys_equal(r, row, row + 1)) return 2;
  lc_redo_rows_undo(r);
  row_start(r, row, input_row, OP_UPSERT, false);
  new_row(r, row, start);
  return 1;
}

int64_t lc_redo_rows(lc_redo_parser *r, int64_t input_row, const uint8_t *start) {
  if (r->statement.op == 'u') return update_rows(r, input_row, start);
  if (r->statement.op == 'd') {
    row_start(r, r->rows, input_row, OP_DELETE, true);
    old_row(r, r->rows, r->has_key && !r->plan->images, start);
  } else {
    row_start(r, r->rows, input_row, r->plan->creates && r->has_key ? OP_INSERT : OP_UPSERT, false);
    new_row(r, r->rows, start);
  }
  row_judge(r, r->rows);
  return 1;
}

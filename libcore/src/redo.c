/* The batch: pieces joined to statements, statements to rows, bad ones to errors. */
#include "libcore/redo.h"

#include "redo_internal.h"
#include "view.h"

/* ---- statements ---- */

static void error_add(lc_redo_parser *r, int64_t input_row) {
  if (r->error_count == r->error_capacity) {
    int64_t capacity = r->error_capacity == 0 ? 16 : r->error_capacity * 2;
    lc_redo_error *errors = lc_realloc(r->errors, (size_t)capacity * sizeof *errors);
    if (errors == NULL) {
      r->failed = LC_NO_MEMORY;
      return;
    }
    r->errors = errors;
    r->error_capacity = capacity;
  }
  r->errors[r->error_count++] = (lc_redo_error){input_row, r->fault.position, r->fault.code, r->fault.column};
}

/* Read start..end into literals; true, or the fault is set. */
static bool statement_read(lc_redo_parser *r, const uint8_t *start, const uint8_t *end) {
  lc_redo_cursor c = {.p = start, .end = end};
  bool good = lc_redo_read(&r->statement, &c);
  lc_redo_cursor first = c;
  if (!good && r->plan->relaxed && !r->statement.failed && c.fault != LC_REDO_STATEMENT) {
    c = (lc_redo_cursor){.p = start, .end = end, .relaxed = true};
    good = lc_redo_read(&r->statement, &c);
  }
  if (r->statement.failed) r->failed = LC_NO_MEMORY;
  r->reading = (lc_redo_reading){.end = end, .relaxed = c.relaxed, .local_is_utc = r->plan->local_is_utc != 0};
  if (!good && !r->statement.failed) r->fault = (lc_redo_slip){first.fault, -1, first.fault_at - start};
  return good;
}

/* One statement of `size` bytes; empty_at: where a piece of it is NULL, or -1. */
static void statement_take(lc_redo_parser *r, const uint8_t *start, int64_t size, int64_t empty_at, int64_t input_row) {
  r->fault = (lc_redo_slip){0, -1, 0};
  int64_t bad = empty_at >= 0 ? -1 : r->kernels->utf8_fault(start, (size_t)size), count = 0;
  if (empty_at >= 0)
    r->fault = (lc_redo_slip){LC_REDO_EMPTY, -1, empty_at};
  else if (bad >= 0)
    r->fault = (lc_redo_slip){LC_ROW_UTF8, -1, bad};
  else if (statement_read(r, start, start + size))
    count = lc_redo_rows(r, input_row, start);
  if (r->fault.code != 0) {
    lc_redo_rows_undo(r);
    error_add(r, input_row);
    return;
  }
  for (int64_t i = 0; i < count * r->unset_width && !r->has_unset; i++)
    r->has_unset = r->unset[r->rows * r->unset_width + i] != 0;
  r->rows += count;
}

/* The row behind a statement's last piece, from its first one; -1 where that is not there yet. */
static int64_t statement_end(const lc_view *csf, int64_t row) {
  if (csf == NULL) return row + 1;
  for (; row < csf->rows; row++)
    if (!lc_view_valid(csf, row) || csf->values[row] == 0) return row + 1;
  return -1;
}

static int64_t null_piece(const lc_view *sql, int64_t first, int64_t end) {
  for (int64_t row = first; row < end; row++)
    if (!lc_view_valid(sql, row)) return (int64_t)sql->offsets[row] - sql->offsets[first];
  return -1;
}

/* Rows that the statements can give at most: two an update, one another. */
static int64_t rows_most(const lc_view *sql) {
  int64_t count = sql->rows;
  for (int64_t row = 0; row < sql->rows; row++) {
    const uint8_t *p = lc_view_bytes(sql, row), *end = p + lc_view_size(sql, row);
    p = lc_skip_space(p, end);
    count += p == end || (*p | 0x20) == 'u'; /* a piece of blanks may have its first word in the next */
  }
  return count;
}

static int64_t all_take(lc_redo_parser *r, const lc_view *sql, const lc_view *csf) {
  int64_t row = 0;
  while (row < sql->rows && r->failed == LC_OK) {
    int64_t end = statement_end(csf, row);
    if (end < 0) break;
    const uint8_t *start = lc_view_bytes(sql, row); /* the pieces stand one behind the other */
    statement_take(r, start, (int64_t)sql->offsets[end] - sql->offsets[row], null_piece(sql, row, end), row);
    row = end;
  }
  return row;
}

/* ---- the call ---- */

static bool column_valid(const lc_redo_column *column) {
  lc_column layout = {.type = column->type, .precision = column->precision, .scale = column->scale};
  bool clock = column->type == LC_TYPE_TIME64 || column->type == LC_TYPE_TIMESTAMP;
  if (column->name == NULL || column->name_size < 1 || column->name_size > LC_REDO_NAME_MAX ||
      column->type == LC_TYPE_FIXED || column->type == LC_TYPE_INT8 || !lc_column_valid(&layout) ||
      (clock && column->scale != 6 && column->scale != 9))
    return false;
  switch (column->form) {
    case LC_REDO_PLAIN: return true;
    case LC_REDO_LITERAL:
    case LC_REDO_NUMERIC:
    case LC_REDO_INTERVAL: return column->type == LC_TYPE_UTF8;
    case LC_REDO_INTERVAL_US: return column->type == LC_TYPE_INT64;
    case LC_REDO_ZONED: return column->type == LC_TYPE_TIMESTAMP;
    default: return false;
  }
}

static lc_code plan_check(const lc_redo_plan *plan, lc_error *error) {
  if (plan == NULL || plan->columns == NULL || plan->column_count < 1 || plan->column_count > 65000)
    return lc_fail(error, LC_INVALID, -1, -1, "expected a plan of 1..65000 columns");
  for (int32_t c = 0; c < plan->column_count; c++)
    if (!column_valid(&plan->columns[c]))
      return lc_fail(error, LC_INVALID, -1, -1, "column %d: form %d does not go with type %d", c,
                     plan->columns[c].form, plan->columns[c].type);
  return LC_OK;
}

static lc_code no_memory(lc_error *error) { return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for the rows"); }

/* The output's columns, and the parser's views of them. */
static lc_code batch_make(lc_redo_parser *r, int64_t rows, struct ArrowArray *batch, lc_error *error) {
  int32_t count = r->plan->column_count;
  r->unset_width = (count + 7) / 8;
  lc_column *layouts = lc_calloc((size_t)count + 5, sizeof *layouts);
  if (layouts == NULL) return no_memory(error);
  for (int32_t c = 0; c < count; c++)
    layouts[c] = (lc_column){r->plan->columns[c].type, 0, r->plan->columns[c].precision, r->plan->columns[c].scale};
  layouts[count].type = LC_TYPE_INT8;
  layouts[count + 1].type = LC_TYPE_INT32;
  layouts[count + 2].type = layouts[count + 3].type = LC_TYPE_BOOL;
  layouts[count + 4] = (lc_column){.type = LC_TYPE_FIXED, .width = r->unset_width};
  lc_code code = lc_batch_new(batch, layouts, count + 5, rows, error);
  if (code == LC_OK) {
    for (int32_t c = 0; c < count; c++) {
      lc_redo_cells *cells = &r->cells[c];
      bool integer = layouts[c].type >= LC_TYPE_INT16 && layouts[c].type <= LC_TYPE_INT64;
      bool wide = layouts[c].type == LC_TYPE_DECIMAL256;
      cells->plan = &r->plan->columns[c];
      cells->values = lc_child_values(batch, c);
      cells->validity = lc_child_validity(batch, c);
      cells->variable = lc_type_is_variable(&layouts[c]);
      cells->width = lc_type_width(&layouts[c]);
      if (integer || wide || layouts[c].type == LC_TYPE_DECIMAL128)
        cells->decimal = lc_decimal_target_make(integer ? 38 : layouts[c].precision, integer ? 0 : layouts[c].scale,
                                                wide);
    }
    r->batch = batch;
    r->ops = lc_child_values(batch, count);
    r->row_of = lc_child_values(batch, count + 1);
    r->before = lc_child_values(batch, count + 2);
    r->unavailable = lc_child_values(batch, count + 3);
    r->unset = lc_child_values(batch, count + 4);
  }
  lc_free(layouts);
  return code;
}

static lc_code parser_make(lc_redo_parser *r, const lc_redo_plan *plan, lc_error *error) {
  size_t count = (size_t)plan->column_count;
  *r = (lc_redo_parser){.plan = plan, .kernels = lc_kernels_pick(0)};
  r->statement.column_count = plan->column_count;
  r->statement.skip_unknown = plan->skip_unknown != 0;
  r->cells = lc_calloc(count, sizeof *r->cells);
  r->statement.before = lc_calloc(count, sizeof *r->statement.before);
  r->statement.after = lc_calloc(count, sizeof *r->statement.after);
  if (r->cells == NULL || r->statement.before == NULL || r->statement.after == NULL ||
      !lc_names_init(&r->statement.names, plan->column_count))
    return no_memory(error);
  for (int32_t c = 0; c < plan->column_count; c++) {
    const lc_redo_column *column = &plan->columns[c];
    if (!lc_names_set(&r->statement.names, c, column->name, (size_t)column->name_size))
      return lc_fail(error, LC_INVALID, -1, -1, "column %d: its name stands there for the second time", c);
    r->has_key = r->has_key || column->is_key;
  }
  return LC_OK;
}

static void parser_free(lc_redo_parser *r) {
  for (int32_t c = 0; r->cells != NULL && c < r->plan->column_count; c++)
    lc_buffer_free(&r->cells[c].data);
  lc_free(r->cells);
  lc_free(r->statement.before);
  lc_free(r->statement.after);
  lc_names_free(&r->statement.names);
  lc_buffer_free(&r->statement.order);
  lc_free(r->errors);
}

lc_code lc_redo_parse(const lc_redo_plan *plan, const struct ArrowArray *statements, lc_redo_result *out,
                      lc_error *error) {
  static const lc_column input[2] = {{.type = LC_TYPE_BINARY}, {.type = LC_TYPE_INT8}};
  lc_code code = plan_check(plan, error);
  if (code != LC_OK) return code;
  if (statements == NULL || out == NULL) return lc_fail(error, LC_INVALID, -1, -1, "statements or out is NULL");
  int64_t given = statements->n_children == 2 ? 2 : 1;
  code = lc_check_batch(statements, input, given, error);
  if (code != LC_OK) return code;
  lc_view sql = lc_view_of(statements, input, 0), csf = {0};
  if (given == 2) csf = lc_view_of(statements, input, 1);
  lc_redo_parser r;
  struct ArrowArray batch = {0};
  code = parser_make(&r, plan, error);
  if (code == LC_OK) code = batch_make(&r, rows_most(&sql), &batch, error);
  if (code != LC_OK) {
    parser_free(&r);
    return code;
  }
  int64_t consumed = all_take(&r, &sql, given == 2 ? &csf : NULL);
  if (r.failed != LC_OK) {
    batch.release(&batch);
    parser_free(&r);
    return r.failed == LC_CAPACITY ? lc_fail(error, LC_CAPACITY, -1, -1, "a column's text passes 2^31-1 bytes")
                                   : no_memory(error);
  }
  for (int32_t c = 0; c < plan->column_count; c++)
    if (r.cells[c].variable) lc_child_give_data(&batch, c, &r.cells[c].data);
  lc_batch_finish(&batch, r.rows);
  *out = (lc_redo_result){.batch = batch,
                          .has_unset = r.has_unset,
                          .consumed = consumed,
                          .error_count = r.error_count,
                          .errors = r.errors};
  r.errors = NULL;
  parser_free(&r);
  return LC_OK;
}

void lc_redo_free(lc_redo_result *result) {
  if (result->batch.release != NULL) result->batch.release(&result->batch);
  lc_free(result->errors);
  *result = (lc_redo_result){0};
}

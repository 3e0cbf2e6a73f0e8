/* Fields of text records into columns: one row in work, kept or undone as a whole. */
#include "delimited_cells.h"

static bool kind_fits(const lc_text_column *column) {
  int32_t type = column->layout.type;
  switch (column->kind) {
    case LC_TEXT_KIND_TEXT:
    case LC_TEXT_KIND_NUMERIC: return type == LC_TYPE_UTF8;
    case LC_TEXT_KIND_INT: return type == LC_TYPE_INT16 || type == LC_TYPE_INT32 || type == LC_TYPE_INT64;
    case LC_TEXT_KIND_FLOAT: return type == LC_TYPE_FLOAT32 || type == LC_TYPE_FLOAT64;
    case LC_TEXT_KIND_BOOL: return type == LC_TYPE_BOOL;
    case LC_TEXT_KIND_HEX:
    case LC_TEXT_KIND_BASE64: return type == LC_TYPE_BINARY;
    case LC_TEXT_KIND_DECIMAL: return type == LC_TYPE_DECIMAL128 || type == LC_TYPE_DECIMAL256;
    case LC_TEXT_KIND_DATE: return type == LC_TYPE_DATE32;
    case LC_TEXT_KIND_TIME: return type == LC_TYPE_TIME64;
    case LC_TEXT_KIND_TIMESTAMP:
    case LC_TEXT_KIND_TIMESTAMPTZ: return type == LC_TYPE_TIMESTAMP;
    default: return false;
  }
}

static bool words_valid(const uint8_t *words, int32_t size) {
  int32_t at = 0;
  while (size - at >= 2) {
    int32_t length = words[at] | words[at + 1] << 8;
    if (length > size - at - 2) return false;
    at += 2 + length;
  }
  return size >= 0 && at == size;
}

static bool column_valid(const lc_text_column *column) {
  if (!lc_column_valid(&column->layout) || !kind_fits(column)) return false;
  if (column->kind >= LC_TEXT_KIND_DATE && !lc_clock_valid(column)) return false;
  return words_valid(column->null_words, column->null_size) && words_valid(column->true_words, column->true_size) &&
         words_valid(column->false_words, column->false_size) && column->thousands_size >= 0 && column->implied >= 0 &&
         column->implied <= 76;
}

lc_code lc_cells_init(lc_cells *cells, const lc_text_column *columns, int64_t count, int64_t capacity,
                      lc_error *error) {
  if (count < 0 || count > 1 << 15) return lc_fail(error, LC_INVALID, -1, -1, "expected up to 32768 columns");
  for (int64_t c = 0; c < count; c++)
    if (!column_valid(&columns[c]))
      return lc_fail(error, LC_INVALID, -1, -1, "column %lld: its kind, type, words or pattern is no valid one",
                     (long long)c);
  lc_column *layouts = lc_calloc((size_t)count + 2, sizeof *layouts);
  cells->cells = lc_calloc((size_t)count, sizeof *cells->cells);
  if (layouts == NULL || cells->cells == NULL) {
    lc_free(layouts);
    lc_free(cells->cells);
    cells->cells = NULL;
    return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)count);
  }
  for (int64_t c = 0; c < count; c++)
    layouts[c] = columns[c].layout;
  layouts[count].type = layouts[count + 1].type = LC_TYPE_INT64;
  lc_code code = lc_batch_new(&cells->batch, layouts, count + 2, capacity, error);
  lc_free(layouts);
  if (code != LC_OK) {
    lc_free(cells->cells);
    cells->cells = NULL;
    return code;
  }
  cells->count = count;
  for (int64_t c = 0; c < count; c++) {
    lc_cell *cell = &cells->cells[c];
    cell->column = &columns[c];
    cell->values = lc_child_values(&cells->batch, c);
    cell->validity = lc_child_validity(&cells->batch, c);
    cell->variable = lc_type_is_variable(&columns[c].layout);
    if (columns[c].kind == LC_TEXT_KIND_DECIMAL)
      cell->decimal = lc_decimal_target_make(columns[c].layout.precision, columns[c].layout.scale,
                                             columns[c].layout.type == LC_TYPE_DECIMAL256);
    else
      cell->decimal = lc_decimal_target_make(38, 0, false); /* for integers that are written with a fraction */
  }
  return LC_OK;
}

void lc_cells_free(lc_cells *cells) {
  for (int64_t c = 0; cells->cells != NULL && c < cells->count; c++)
    lc_buffer_free(&cells->cells[c].data);
  lc_free(cells->cells);
  cells->cells = NULL;
  lc_buffer_free(&cells->plain);
  lc_buffer_free(&cells->number);
  if (cells->batch.release != NULL) cells->batch.release(&cells->batch);
}

void lc_cells_keep(lc_cells *cells, int64_t line, int64_t offset) {
  ((int64_t *)lc_child_values(&cells->batch, cells->count))[cells->rows] = line;
  ((int64_t *)lc_child_values(&cells->batch, cells->count + 1))[cells->rows] = offset;
  cells->rows++;
}

void lc_cells_undo(lc_cells *cells) {
  for (int64_t c = 0; c < cells->count; c++) {
    lc_cell *cell = &cells->cells[c];
    lc_bit_set(cell->validity, cells->rows);
    if (cell->variable) cell->data.size = (size_t)((const int32_t *)(const void *)cell->values)[cells->rows];
  }
}

void lc_cells_finish(lc_cells *cells, struct ArrowArray *out) {
  for (int64_t c = 0; c < cells->count; c++)
    if (cells->cells[c].variable) lc_child_give_data(&cells->batch, c, &cells->cells[c].data);
  lc_batch_finish(&cells->batch, cells->rows);
  *out = cells->batch;
  cells->batch.release = NULL;
}

bool lc_text_error_add(lc_text_errors *errors, lc_text_error entry) {
  if (errors->count == errors->capacity) {
    if (errors->capacity > INT32_MAX / 2) return false;
    int64_t capacity = errors->capacity ? errors->capacity * 2 : 16;
    lc_text_error *list = lc_realloc(errors->list, (size_t)capacity * sizeof *list);
    if (list == NULL) return false;
    errors->list = list;
    errors->capacity = capacity;
  }
  errors->list[errors->count++] = entry;
  return true;
}

void lc_text_read_free(lc_text_read *read) {
  lc_free(read->errors);
  read->errors = NULL;
  read->error_count = 0;
}

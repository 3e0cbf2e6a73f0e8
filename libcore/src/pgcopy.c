/* Binary COPY: one pass over the rows, a switch a cell, no growth check because the buffer's bound is known before. */
#include "libcore/pgcopy.h"

#include "pgnumeric.h"
#include "view.h"

#define HEADER_BYTES 19
#define TRAILER_BYTES 2
#define COLUMNS_MAX 1600
#define DAY_US 86400000000LL
#define DAYS_1970_TO_2000 10957
#define US_1970_TO_2000 946684800000000LL
#define DATE_FIRST (-2451545 + DAYS_1970_TO_2000)             /* 4714-11-24 BC, PostgreSQL's Julian day 0 */
#define DATE_END (2145031949LL + DAYS_1970_TO_2000)           /* the day after 5874897-12-31 */
#define STAMP_FIRST (-211813488000000000LL + US_1970_TO_2000) /* 4714-11-24 BC 00:00; the upper end is above int64 */

static const uint8_t HEADER[HEADER_BYTES] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0"; /* signature, flags 0, extension 0 */

/* What a row's loop needs of one column. */
typedef struct cell {
  lc_view view;
  int32_t kind, scale;
} cell;

static bool kind_suits(int32_t kind, int32_t type) {
  switch (kind) {
    case LC_PG_BOOL: return type == LC_TYPE_BOOL;
    case LC_PG_CHAR: return type == LC_TYPE_INT8;
    case LC_PG_INT: return type == LC_TYPE_INT16 || type == LC_TYPE_INT32 || type == LC_TYPE_INT64;
    case LC_PG_FLOAT: return type == LC_TYPE_FLOAT32 || type == LC_TYPE_FLOAT64;
    case LC_PG_DATE: return type == LC_TYPE_DATE32;
    case LC_PG_TIME_US:
    case LC_PG_TIME_NS: return type == LC_TYPE_TIME64;
    case LC_PG_STAMP_US:
    case LC_PG_STAMP_NS: return type == LC_TYPE_TIMESTAMP;
    case LC_PG_DECIMAL: return type == LC_TYPE_DECIMAL128 || type == LC_TYPE_DECIMAL256;
    case LC_PG_NUMERIC:
    case LC_PG_UUID:
    case LC_PG_TEXT: return type == LC_TYPE_UTF8;
    case LC_PG_BYTES: return type == LC_TYPE_BINARY || type == LC_TYPE_FIXED;
    default: return false;
  }
}

/* Bytes that are enough for one column of all rows, length words included. */
static int64_t column_bound(const struct ArrowArray *batch, const lc_column *columns, int32_t kind, int64_t c) {
  lc_view view = lc_view_of(batch, columns, c);
  int64_t rows = batch->length, fixed = view.type == LC_TYPE_BOOL ? 1 : view.width;
  if (kind == LC_PG_DECIMAL) return rows * LC_PG_DECIMAL_BYTES(view.width);
  if (view.offsets == NULL) return rows * (4 + fixed);
  int64_t bytes = (int64_t)view.offsets[rows] - view.offsets[0];
  if (kind == LC_PG_UUID) return rows * (4 + 16);
  if (kind == LC_PG_NUMERIC) return rows * LC_PG_NUMERIC_BYTES(0) + bytes / 2 + 2;
  return rows * 4 + bytes;
}

int64_t lc_pgcopy_bound(const struct ArrowArray *batch, const lc_column *columns, const int32_t *kinds,
                        int64_t column_count, lc_error *error) {
  if (lc_check_batch(batch, columns, column_count, error) != LC_OK) return -1;
  if (column_count > COLUMNS_MAX) {
    lc_fail(error, LC_INVALID, -1, -1, "expected at most %d columns, found %lld", COLUMNS_MAX, (long long)column_count);
    return -1;
  }
  int64_t bound = HEADER_BYTES + TRAILER_BYTES + 2 * batch->length;
  for (int64_t c = 0; c < column_count; c++) {
    if (!kind_suits(kinds[c], columns[c].type)) {
      lc_fail(error, LC_INVALID, -1, -1, "column %lld: kind %d does not suit layout %d", (long long)c, kinds[c],
              columns[c].type);
      return -1;
    }
    bound += column_bound(batch, columns, kinds[c], c);
  }
  return bound;
}

static inline uint8_t *put_bytes(uint8_t *at, const uint8_t *bytes, int64_t size) {
  at = lc_put_u32(at, (uint32_t)size);
  memcpy(at, bytes, (size_t)size);
  return at + size;
}

static inline uint8_t *put_word64(uint8_t *at, uint64_t value) { return lc_put_u64(lc_put_u32(at, 8), value); }

static uint8_t *put_time(uint8_t *at, int64_t time_us, int32_t *reason) {
  *reason = LC_PG_RANGE;
  return time_us < 0 || time_us > DAY_US ? NULL : put_word64(at, (uint64_t)time_us);
}

static uint8_t *put_stamp(uint8_t *at, int64_t stamp_us, int32_t *reason) {
  *reason = LC_PG_RANGE;
  return stamp_us < STAMP_FIRST ? NULL : put_word64(at, (uint64_t)(stamp_us - US_1970_TO_2000));
}

static uint8_t *put_date(uint8_t *at, int32_t day, int32_t *reason) {
  at = lc_put_u32(at, 4);
  if (day == INT32_MAX || day == INT32_MIN) return lc_put_u32(at, (uint32_t)day);
  *reason = LC_PG_RANGE;
  return day < DATE_FIRST || day >= DATE_END ? NULL : lc_put_u32(at, (uint32_t)(day - DAYS_1970_TO_2000));
}

static int hex_digit(uint8_t c) {
  if (c >= '0' && c <= '9') return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* As uuid_in: 32 hex digits, a hyphen allowed behind each four but the last, all in braces or not. */
static uint8_t *put_uuid(uint8_t *at, const uint8_t *text, int64_t size, int32_t *reason) {
  const uint8_t *end = text + size;
  bool braces = size > 0 && *text == '{';
  text += braces;
  *reason = LC_PG_BAD_UUID;
  at = lc_put_u32(at, 16);
  for (int i = 0; i < 16; i++) {
    if (end - text < 2) return NULL;
    int high = hex_digit(text[0]), low = hex_digit(text[1]);
    if (high < 0 || low < 0) return NULL;
    *at++ = (uint8_t)(high << 4 | low);
    text += 2;
    if (i % 2 == 1 && i < 15 && text < end && *text == '-') text++;
  }
  if (braces && (text == end || *text++ != '}')) return NULL;
  return text == end ? at : NULL;
}

static uint8_t *put_text(uint8_t *at, const uint8_t *text, int64_t size, int32_t *reason) {
  *reason = LC_PG_NUL;
  return memchr(text, 0, (size_t)size) != NULL ? NULL : put_bytes(at, text, size);
}

static inline uint8_t *put_number(uint8_t *at, const cell *cell, int64_t row) {
  const uint8_t *value = cell->view.values + (int64_t)cell->view.width * row;
  switch (cell->view.width) {
    case 2: return lc_put_u16(lc_put_u32(at, 2), (uint16_t)lc_load_i16(value));
    case 4: return lc_put_u32(lc_put_u32(at, 4), lc_load_u32(value));
    default: return put_word64(at, lc_load_u64(value));
  }
}

/* One value, not NULL, with its length word; NULL and *reason where the row cannot go. */
static inline uint8_t *put_cell(uint8_t *at, const cell *cell, int64_t row, int32_t *reason) {
  const lc_view *view = &cell->view;
  const uint8_t *value = view->values + (int64_t)view->width * row; /* meaningless for bits and variable columns */
  switch (cell->kind) {
    case LC_PG_INT:
    case LC_PG_FLOAT: return put_number(at, cell, row);
    case LC_PG_DECIMAL: return lc_put_decimal(at, value, view->width, cell->scale);
    case LC_PG_TEXT: return put_text(at, lc_view_bytes(view, row), lc_view_size(view, row), reason);
    case LC_PG_STAMP_NS: {
      int64_t stamp_ns = lc_load_i64(value);
      *reason = LC_PG_PRECISION;
      return stamp_ns % 1000 ? NULL : put_stamp(at, stamp_ns / 1000, reason);
    }
    case LC_PG_STAMP_US: {
      int64_t stamp_us = lc_load_i64(value);
      bool infinite = stamp_us == INT64_MAX || stamp_us == INT64_MIN;
      return infinite ? put_word64(at, (uint64_t)stamp_us) : put_stamp(at, stamp_us, reason);
    }
    case LC_PG_BOOL:
      at = lc_put_u32(at, 1);
      *at = lc_view_bool(view, row);
      return at + 1;
    case LC_PG_CHAR: return put_bytes(at, value, 1);
    case LC_PG_DATE: return put_date(at, lc_load_i32(value), reason);
    case LC_PG_TIME_US: return put_time(at, lc_load_i64(value), reason);
    case LC_PG_TIME_NS: {
      int64_t time_ns = lc_load_i64(value);
      *reason = LC_PG_PRECISION;
      return time_ns % 1000 ? NULL : put_time(at, time_ns / 1000, reason);
    }
    case LC_PG_NUMERIC: return lc_put_numeric(at, lc_view_bytes(view, row), lc_view_size(view, row), reason);
    case LC_PG_UUID: return put_uuid(at, lc_view_bytes(view, row), lc_view_size(view, row), reason);
    default:
      if (view->offsets != NULL) return put_bytes(at, lc_view_bytes(view, row), lc_view_size(view, row));
      return put_bytes(at, view->width > 0 ? value : (const uint8_t *)"", view->width);
  }
}

/* The rows from `at` on; the byte behind the last one. */
static uint8_t *put_rows(uint8_t *at, const cell *cells, int64_t column_count, int64_t rows, lc_pg_error *errors,
                         int64_t error_capacity, lc_pg_result *result) {
  for (int64_t row = 0; row < rows; row++) {
    uint8_t *start = at;
    int32_t reason = 0;
    int64_t c = 0;
    at = lc_put_u16(at, (uint16_t)column_count);
    for (; c < column_count && at != NULL; c++)
      at = lc_view_valid(&cells[c].view, row) ? put_cell(at, &cells[c], row, &reason) : lc_put_u32(at, UINT32_MAX);
    if (at != NULL) {
      result->rows++;
      continue;
    }
    at = start;
    if (result->error_count < error_capacity)
      errors[result->error_count] = (lc_pg_error){.row = row, .column = (int32_t)c - 1, .reason = reason};
    result->error_count++;
  }
  return at;
}

lc_code lc_pgcopy(const struct ArrowArray *batch, const lc_column *columns, const int32_t *kinds, int64_t column_count,
                  int32_t framed, uint8_t *out, int64_t capacity, lc_pg_error *errors, int64_t error_capacity,
                  lc_pg_result *result, lc_error *error) {
  int64_t bound = lc_pgcopy_bound(batch, columns, kinds, column_count, error);
  if (bound < 0) return LC_INVALID;
  if (capacity < bound)
    return lc_fail(error, LC_CAPACITY, -1, -1, "expected room for %lld bytes, found %lld", (long long)bound,
                   (long long)capacity);
  cell *cells = lc_calloc((size_t)column_count, sizeof *cells);
  if (cells == NULL) return lc_fail(error, LC_NO_MEMORY, -1, -1, "no memory for %lld columns", (long long)column_count);
  for (int64_t c = 0; c < column_count; c++)
    cells[c] = (cell){.view = lc_view_of(batch, columns, c), .kind = kinds[c], .scale = columns[c].scale};
  *result = (lc_pg_result){0};
  uint8_t *at = out;
  if (framed) {
    memcpy(at, HEADER, HEADER_BYTES);
    at += HEADER_BYTES;
  }
  at = put_rows(at, cells, column_count, batch->length, errors, error_capacity, result);
  if (framed) at = lc_put_u16(at, UINT16_MAX);
  result->size = at - out;
  lc_free(cells);
  return LC_OK;
}

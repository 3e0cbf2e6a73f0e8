/* A literal made a cell of its column's type and form. */
#include <math.h>

#include "libcore/envelope.h"
#include "redo_internal.h"
#include "time_text.h"

#define DAY_US 86400000000ll

void lc_redo_cell_null(lc_redo_cells *column, int64_t row) {
  lc_bit_clear(column->validity, row);
  if (column->variable)
    ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
  else if (column->width > 0) /* one image of a NULL, whatever stood there */
    memset(column->values + row * column->width, 0, (size_t)column->width);
}

static int done(lc_redo_cells *column, int64_t row) {
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
  return LC_REDO_KEPT;
}

static int variable_cell(lc_redo_cells *column, int64_t row, const lc_redo_literal *literal,
                         const lc_redo_reading *reading, const uint8_t **at) {
  int code;
  if (column->plan->form == LC_REDO_NUMERIC) {
    bool number = literal->kind == REDO_TEXT || literal->kind == REDO_BARE;
    code = number ? lc_numeric_from_text(literal->text, literal->text_end, &column->data) : LC_ROW_TYPE;
  } else if (column->plan->form == LC_REDO_INTERVAL) {
    bool is_months;
    __int128 value;
    uint8_t text[64];
    bool interval = literal->kind == REDO_YEARS || literal->kind == REDO_DAYS || literal->kind == REDO_TEXT;
    code = interval ? lc_redo_interval(literal, &is_months, &value) : LC_ROW_TYPE;
    size_t size = code == 0 ? lc_redo_interval_text(is_months, value, text) : 0;
    if (code == 0) code = lc_redo_text_append(column, text, text + size, false);
  } else if (column->plan->type == LC_TYPE_UTF8) {
    code = lc_redo_text(column, literal, reading, at);
  } else {
    code = lc_redo_bytes(column, literal, reading, at);
  }
  return code == LC_REDO_KEPT ? done(column, row) : code;
}

/* ---- numbers ---- */

/* A number of at most 18 digits with its point, as it nearly always is, at that scale; false: take the long way. */
static inline bool number_short(const lc_redo_literal *literal, int32_t scale, int64_t *value) {
  const uint8_t *p = literal->text, *end = literal->text_end;
  bool negative = p < end && *p == '-';
  if (negative) p++;
  int64_t magnitude = 0, fraction = -1;
  if (p == end || end - p > 18) return false;
  for (; p < end; p++) {
    if (lc_is_digit(*p))
      magnitude = magnitude * 10 + (*p - '0');
    else if (*p == '.' && fraction < 0 && end - literal->text > 1 + negative)
      fraction = end - p - 1;
    else
      return false;
  }
  int64_t shift = scale - (fraction < 0 ? 0 : fraction);
  if (shift < 0 || shift + (end - literal->text) > 18) return false;
  magnitude *= (int64_t)lc_pow10((unsigned)shift);
  *value = negative ? -magnitude : magnitude;
  return true;
}

static int decimal_cell(lc_redo_cells *column, const lc_redo_literal *literal, uint8_t *out) {
  int64_t value;
  if (column->width == 16 && number_short(literal, column->plan->scale, &value)) {
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    lc_u256 wide = {{magnitude, 0, 0, 0}};
    if (lc_u256_compare(&wide, &column->decimal.limit) >= 0) return LC_ROW_RANGE;
    lc_decimal_store(&wide, value < 0, 16, out);
    return LC_REDO_KEPT;
  }
  return lc_decimal_from_text(literal->text, literal->text_end, &column->decimal, out);
}

static int integer_store(int64_t value, int32_t width, uint8_t *out) {
  int32_t value32 = (int32_t)value;
  int16_t value16 = (int16_t)value;
  if ((width == 4 && value32 != value) || (width == 2 && value16 != value)) return LC_ROW_RANGE;
  memcpy(out, width == 8 ? (void *)&value : width == 4 ? (void *)&value32 : (void *)&value16, (size_t)width);
  return LC_REDO_KEPT;
}

static int integer_cell(lc_redo_cells *column, const lc_redo_literal *literal, uint8_t *out) {
  int64_t value;
  if (number_short(literal, 0, &value)) return integer_store(value, column->width, out);
  uint8_t bytes[16];
  int code = lc_decimal_from_text(literal->text, literal->text_end, &column->decimal, bytes);
  if (code != 0) return code;
  unsigned __int128 raw = 0;
  for (int i = 15; i >= 0; i--)
    raw = raw << 8 | bytes[i];
  __int128 wide = (__int128)raw;
  if (wide > INT64_MAX || wide < INT64_MIN) return LC_ROW_RANGE;
  return integer_store((int64_t)wide, column->width, out);
}

/* [sign] digits with a point, perhaps, and an exponent: what lc_double_from_text may be given, behind a plus sign. */
static bool is_number(const uint8_t *p, const uint8_t *end) {
  bool digits = false;
  if (p < end && (*p == '+' || *p == '-')) p++;
  for (int point = 0; p < end && (lc_is_digit(*p) || (*p == '.' && point++ == 0)); p++)
    digits = digits || *p != '.';
  if (!digits) return false;
  if (p == end) return true;
  if ((*p++ | 0x20) != 'e') return false;
  if (p < end && (*p == '+' || *p == '-')) p++;
  if (p == end) return false;
  while (p < end && lc_is_digit(*p))
    p++;
  return p == end;
}

static int float_cell(lc_redo_cells *column, const lc_redo_literal *literal, uint8_t *out) {
  const uint8_t *p = literal->text, *end = literal->text_end;
  double value;
  if (is_number(p, end)) {
    p += *p == '+';
    value = lc_double_from_text(p, end);
    if (column->width == 4) value = lc_float_of_text(value, p, end);
    if (isinf(value)) return LC_ROW_RANGE;
  } else {
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    size_t size = (size_t)(end - p);
    bool infinite = lc_redo_is_word(p, size, "inf") || lc_redo_is_word(p, size, "infinity");
    if (!infinite && !lc_redo_is_word(literal->text, (size_t)(end - literal->text), "nan")) return LC_ROW_TYPE;
    value = !infinite ? (double)NAN : negative ? -HUGE_VAL : HUGE_VAL;
  }
  float narrow = (float)value;
  memcpy(out, column->width == 4 ? (void *)&narrow : (void *)&value, (size_t)column->width);
  return LC_REDO_KEPT;
}

static int bool_cell(lc_redo_cells *column, int64_t row, const lc_redo_literal *literal) {
  const uint8_t *p = literal->text;
  size_t size = (size_t)(literal->text_end - p);
  bool yes = (size == 1 && *p == '1') || lc_redo_is_word(p, size, "true");
  if (!yes && !(size == 1 && *p == '0') && !lc_redo_is_word(p, size, "false")) return LC_ROW_TYPE;
  if (yes)
    lc_bit_set(column->values, row);
  else
    lc_bit_clear(column->values, row);
  return LC_REDO_KEPT;
}

/* ---- dates ---- */

static int clock_cell(lc_redo_cells *column, const lc_redo_literal *literal, const lc_redo_reading *reading,
                      uint8_t *out) {
  const lc_redo_column *plan = column->plan;
  bool text = literal->kind == REDO_TEXT;
  int64_t value = 0;
  int code;
  if (plan->type == LC_TYPE_TIME64) {
    code = text ? lc_iso_read(LC_ENCODING_ISO_TIME, plan->scale, literal->text, literal->text_end, &value)
                : LC_ROW_TYPE;
  } else if (plan->form == LC_REDO_INTERVAL_US) {
    bool is_months;
    __int128 interval;
    code = text || literal->kind == REDO_YEARS || literal->kind == REDO_DAYS
               ? lc_redo_interval(literal, &is_months, &interval)
               : LC_ROW_TYPE;
    if (code == 0) code = lc_redo_interval_us(is_months, interval, &value);
  } else {
    bool date = text || (literal->kind >= REDO_DATE && literal->kind <= REDO_TIMESTAMP_ITZ);
    int32_t digits = plan->type == LC_TYPE_DATE32 ? 6 : plan->scale;
    code = date ? lc_redo_timestamp(literal, digits, plan->form == LC_REDO_ZONED, reading->local_is_utc, &value)
                : LC_ROW_TYPE;
  }
  if (code != 0) return code;
  if (plan->type == LC_TYPE_DATE32) {
    if (value % DAY_US != 0) return LC_ROW_SCALE;
    int32_t days = (int32_t)(value / DAY_US);
    memcpy(out, &days, 4);
  } else {
    memcpy(out, &value, 8);
  }
  return LC_REDO_KEPT;
}

static int fixed_cell(lc_redo_cells *column, int64_t row, const lc_redo_literal *literal,
                      const lc_redo_reading *reading) {
  uint8_t *out = column->values + row * column->width;
  int32_t type = column->plan->type;
  if (type == LC_TYPE_DATE32 || type == LC_TYPE_TIME64 || type == LC_TYPE_TIMESTAMP ||
      column->plan->form == LC_REDO_INTERVAL_US)
    return clock_cell(column, literal, reading, out);
  if (literal->kind != REDO_TEXT && literal->kind != REDO_BARE) return LC_ROW_TYPE;
  switch (type) {
    case LC_TYPE_BOOL: return bool_cell(column, row, literal);
    case LC_TYPE_FLOAT32:
    case LC_TYPE_FLOAT64: return float_cell(column, literal, out);
    case LC_TYPE_DECIMAL128:
    case LC_TYPE_DECIMAL256: return decimal_cell(column, literal, out);
    default: return integer_cell(column, literal, out);
  }
}

int lc_redo_cell(lc_redo_cells *column, int64_t row, const lc_redo_literal *literal, const lc_redo_reading *reading,
                 const uint8_t **at) {
  *at = literal->start;
  const lc_redo_column *plan = column->plan;
  int code;
  if (literal->kind == REDO_NULL) {
    lc_redo_cell_null(column, row);
    return LC_REDO_KEPT;
  }
  bool binary_json = literal->json && literal->kind == REDO_HEX;
  if (literal->kind == REDO_UNKNOWN ||
      (binary_json && plan->type == LC_TYPE_UTF8 && plan->form != LC_REDO_LITERAL))
    code = LC_REDO_LOST;
  else if (literal->kind == REDO_EMPTY && plan->empty_is_unset)
    code = LC_REDO_UNSET;
  else
    code = column->variable ? variable_cell(column, row, literal, reading, at)
                            : fixed_cell(column, row, literal, reading);
  if (code == LC_REDO_KEPT)
    lc_bit_set(column->validity, row);
  else if (code == LC_REDO_LOST || code == LC_REDO_UNSET)
    lc_redo_cell_null(column, row);
  return code;
}

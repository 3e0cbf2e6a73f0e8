/* Numbers: text with the sign in front or behind, packed digits, floating point, integers. */
#include <math.h>

#include "libcore/json.h"
#include "sapfmt_internal.h"
#include "view.h"

static int32_t sap_code(int row_code) {
  return row_code == LC_ROW_SCALE ? LC_SAP_SCALE : row_code == LC_ROW_RANGE ? LC_SAP_RANGE : LC_SAP_TYPE;
}

/* A number's text taken apart: p..end has no blanks around it and no sign. */
typedef struct number {
  const uint8_t *p, *end;
  bool negative;
} number;

/* 0, or OVERFLOWED, or TYPE where there are two signs; what lies between them is not looked at. */
static int32_t take_apart(const lc_sap_cell *cell, number *out) {
  const uint8_t *p = cell->p, *end = cell->p + cell->size;
  while (p < end && *p == ' ')
    p++;
  bool before = p < end && (*p == '-' || *p == '+');
  out->negative = before && *p == '-';
  p += before;
  bool after = p < end && (end[-1] == '-' || end[-1] == '+');
  out->negative |= after && end[-1] == '-';
  end -= after;
  *out = (number){p, end, out->negative};
  if (memchr(cell->p, '*', (size_t)cell->size) != NULL) return LC_SAP_OVERFLOWED;
  return before && after ? LC_SAP_TYPE : 0;
}

/* Digits with an optional point, at least one digit. */
static bool is_plain(const number *n) {
  int64_t points = 0, digits = 0;
  for (const uint8_t *p = n->p; p < n->end; p++) {
    if (*p != '.' && !lc_is_digit(*p)) return false;
    points += *p == '.';
    digits += *p != '.';
  }
  return points <= 1 && digits > 0;
}

static inline void store_64(const lc_sap_column *column, int64_t row, uint64_t magnitude, bool negative) {
  lc_u256 value = {{magnitude, 0, 0, 0}};
  lc_decimal_store(&value, negative && magnitude != 0, column->decimal.width,
                   column->values + row * column->decimal.width);
}

static inline void store_small(const lc_sap_column *column, int64_t row, int64_t value) {
  if (column->decimal.width != 16) {
    store_64(column, row, (uint64_t)(value < 0 ? -value : value), value < 0);
    return;
  }
  int64_t words[2] = {value, value >> 63}; /* little endian, as all of Arrow here */
  memcpy(column->values + row * 16, words, 16);
}

/* The `count` (0..8) bytes before `end` as a number, if they are digits; 8 bytes before `end` can be read. */
static inline bool digits_before(const uint8_t *end, int64_t count, uint64_t *value) {
  *value = 0;
  if (count == 0) return true;
  uint64_t word = lc_load64(end - 8) >> (64 - 8 * count);
  *value = lc_digits_value(word, (unsigned)count);
  return lc_digit_count(word) >= count;
}

/* Eight digits at a time: up to 16 before the point, and exactly the column's scale (up to 8) behind it. */
static inline bool read_words(const uint8_t *p, const uint8_t *end, const uint8_t *row, int32_t scale,
                              uint64_t *value) {
  if (scale > 8 || end - p < scale + 2) return false;
  const uint8_t *whole_end = scale > 0 ? end - scale - 1 : end;
  int64_t whole = whole_end - p, low = whole < 8 ? whole : 8;
  uint64_t parts[3];
  if (whole > 16 || whole + scale > 18 || whole_end - row < (whole > 8 ? 16 : 8)) return false;
  if (scale > 0 && *whole_end != '.') return false;
  if (!digits_before(end, scale, &parts[0]) || !digits_before(whole_end, low, &parts[1]) ||
      !digits_before(whole_end - 8, whole - low, &parts[2]))
    return false;
  *value = (parts[2] * 100000000 + parts[1]) * lc_pow10((unsigned)scale) + parts[0];
  return true;
}

/* Byte by byte: up to 18 digits, as many behind the point as are there. */
static inline bool read_bytes(const uint8_t *p, const uint8_t *end, int32_t scale, uint64_t *value) {
  uint64_t magnitude = 0;
  int64_t digits = 0, fraction = 0;
  bool point = false;
  if (end - p > 19) return false; /* 18 digits and a point, or 19 digits: below 2^64 */
  for (; p < end; p++) {
    if (*p == '.' && !point) {
      point = true;
      continue;
    }
    if (!lc_is_digit(*p)) return false;
    magnitude = magnitude * 10 + (uint64_t)(*p - '0');
    digits++;
    fraction += point;
  }
  if (digits == 0 || fraction > scale || digits + scale - fraction > 18) return false;
  *value = magnitude * lc_pow10((unsigned)(scale - fraction));
  return true;
}

/* Numbers of up to 18 digits that the column keeps as they are; false: to be read with care. */
static inline bool read_quick(const lc_sap_cell *cell, const uint8_t *row, const lc_sap_column *column,
                              int64_t *value) {
  const uint8_t *p = cell->p, *end = p + cell->size;
  while (end - p >= 8 && lc_load64(p) == LC_BLANKS)
    p += 8;
  while (p < end && *p == ' ')
    p++;
  bool negative = p < end && *p == '-';
  p += negative;
  if (!negative && p < end && end[-1] == '-') {
    negative = true;
    end--;
  }
  uint64_t magnitude;
  int32_t scale = column->decimal.scale;
  if (!read_words(p, end, row, scale, &magnitude) && !read_bytes(p, end, scale, &magnitude)) return false;
  if (column->decimal.precision < 19 && magnitude >= lc_pow10((unsigned)column->decimal.precision)) return false;
  *value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
  return true;
}

/* Turn the sign of a stored decimal. */
static void negate(uint8_t *value, int32_t width) {
  uint32_t carry = 1;
  for (int32_t i = 0; i < width; i++) {
    carry += (uint8_t)~value[i];
    value[i] = (uint8_t)carry;
    carry >>= 8;
  }
}

static bool is_zero(const uint8_t *value, int32_t width) {
  uint8_t seen = 0;
  for (int32_t i = 0; i < width; i++)
    seen |= value[i];
  return seen == 0;
}

/* A decimal that is 0 and whose field calls that initial. */
static inline void null_if_initial(lc_sap_reader *r, const lc_sap_column *column, int32_t i) {
  int32_t width = column->decimal.width;
  if (column->field->initial_null && is_zero(column->values + (r->first + i) * width, width))
    lc_sap_null(r, column, i);
}

static void read_decimal(lc_sap_reader *r, lc_sap_column *column, int32_t i) {
  int64_t small, row = r->first + i;
  if (read_quick(&r->cell[i], r->row[i], column, &small)) {
    store_small(column, row, small);
    return;
  }
  number n;
  int32_t code = take_apart(&r->cell[i], &n);
  if (code == 0 && !is_plain(&n)) code = LC_SAP_TYPE;
  uint8_t *out = column->values + row * column->decimal.width;
  int failed = code != 0 ? 0 : lc_decimal_from_text(n.p, n.end, &column->decimal, out);
  if (failed != 0) code = sap_code(failed);
  if (code != 0)
    lc_sap_reject(r, column, i, code);
  else if (n.negative)
    negate(out, column->decimal.width);
}

/* Canonical text of a number, appended; 0, a code, or -1 where memory ends. */
static int32_t write_numeric(lc_sap_column *column, const lc_sap_cell *cell) {
  number n;
  int32_t code = take_apart(cell, &n);
  if (code == 0 && !is_plain(&n)) code = LC_SAP_TYPE;
  if (code != 0) return code;
  bool zero = true;
  for (const uint8_t *p = n.p; p < n.end && zero; p++)
    zero = *p == '0' || *p == '.';
  if (zero && column->field->initial_null) return LC_SAP_TYPE + 1000; /* no fault: the caller makes it NULL */
  size_t start = column->data.size;
  if (n.negative && !zero && !lc_buffer_append(&column->data, "-", 1)) return -1;
  int failed = lc_numeric_from_text(n.p, n.end, &column->data);
  if (failed != 0) column->data.size = start;
  return failed == 0 || failed == -1 ? failed : sap_code(failed);
}

static void read_numeric(lc_sap_reader *r, lc_sap_column *column, int32_t i) {
  int32_t code = write_numeric(column, &r->cell[i]);
  if (code == -1)
    r->failed = column->data.size + (size_t)r->cell[i].size + 3 > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY;
  else if (code > 1000)
    lc_sap_null(r, column, i);
  else if (code != 0)
    lc_sap_reject(r, column, i, code);
}

void lc_sap_read_number(lc_sap_reader *r, lc_sap_column *column) {
  bool text = column->field->type == LC_TYPE_UTF8;
  for (int32_t i = 0; i < r->count && r->failed == LC_OK; i++) {
    if (r->cell[i].p == NULL || r->cell[i].size == 0) {
      lc_sap_null(r, column, i);
    } else if (text) {
      read_numeric(r, column, i);
    } else {
      read_decimal(r, column, i);
      null_if_initial(r, column, i);
    }
    if (text) ((int32_t *)(void *)column->values)[r->first + i + 1] = (int32_t)column->data.size;
  }
}

/* Digits with an optional point, an optional exponent. */
static bool is_float(const number *n) {
  const uint8_t *e = n->p;
  while (e < n->end && *e != 'e' && *e != 'E')
    e++;
  number mantissa = {n->p, e, false};
  if (!is_plain(&mantissa)) return false;
  if (e == n->end) return true;
  e++;
  if (e < n->end && (*e == '-' || *e == '+')) e++;
  if (e == n->end) return false;
  for (; e < n->end; e++)
    if (!lc_is_digit(*e)) return false;
  return true;
}

void lc_sap_read_fltp(lc_sap_reader *r, lc_sap_column *column) {
  for (int32_t i = 0; i < r->count; i++) {
    number n;
    if (r->cell[i].p == NULL || r->cell[i].size == 0) {
      lc_sap_null(r, column, i);
      continue;
    }
    int32_t code = take_apart(&r->cell[i], &n);
    double value = 0.0;
    if (code == 0 && !is_float(&n)) code = LC_SAP_TYPE;
    if (code == 0) value = lc_double_from_text(n.p, n.end);
    if (code == 0 && isinf(value)) code = LC_SAP_RANGE;
    if (code != 0) {
      lc_sap_reject(r, column, i, code);
      continue;
    }
    if (value == 0.0 && column->field->initial_null) lc_sap_null(r, column, i);
    if (n.negative) value = -value;
    memcpy(column->values + (r->first + i) * 8, &value, 8);
  }
}

bool lc_sap_store_int(const lc_sap_column *column, int64_t row, int64_t value) {
  uint8_t *values = column->values;
  if (column->field->type == LC_TYPE_INT16) {
    int16_t small = (int16_t)value;
    memcpy(values + row * 2, &small, 2);
    return small == value;
  }
  if (column->field->type == LC_TYPE_INT32) {
    int32_t small = (int32_t)value;
    memcpy(values + row * 4, &small, 4);
    return small == value;
  }
  memcpy(values + row * 8, &value, 8);
  return true;
}

static bool in_limits(int32_t kind, int64_t value) {
  if (kind == LC_SAP_INT1) return value >= 0 && value <= 255;
  if (kind == LC_SAP_INT2) return value == (int16_t)value;
  return kind == LC_SAP_INT8 || value == (int32_t)value;
}

static void read_int(lc_sap_reader *r, lc_sap_column *column, int32_t i) {
  number n;
  int32_t code = take_apart(&r->cell[i], &n);
  if (code == 0 && n.p == n.end) code = LC_SAP_TYPE;
  int64_t value = 0;
  bool fits = true;
  for (const uint8_t *p = n.p; code == 0 && p < n.end; p++) {
    if (!lc_is_digit(*p)) code = LC_SAP_TYPE;
    int64_t digit = n.negative ? '0' - *p : *p - '0';
    fits = fits && !__builtin_mul_overflow(value, 10, &value) && !__builtin_add_overflow(value, digit, &value);
  }
  if (code == 0 && (!fits || !in_limits(column->field->kind, value) || !lc_sap_store_int(column, r->first + i, value)))
    code = LC_SAP_RANGE;
  if (code != 0)
    lc_sap_reject(r, column, i, code);
  else if (value == 0 && column->field->initial_null)
    lc_sap_null(r, column, i);
}

void lc_sap_read_int(lc_sap_reader *r, lc_sap_column *column) {
  for (int32_t i = 0; i < r->count; i++) {
    if (r->cell[i].p == NULL || r->cell[i].size == 0)
      lc_sap_null(r, column, i);
    else
      read_int(r, column, i);
  }
}

/* Digits of packed bytes into a magnitude; false where a half byte is no digit, or above 2^256. */
static int32_t unpack(const lc_sap_cell *cell, lc_u256 *magnitude, bool *negative) {
  int64_t digits = cell->size * 2 - 1;
  uint8_t sign = cell->p[cell->size - 1] & 0x0F;
  bool fits = true;
  uint64_t small = 0;
  if (sign != 0xC && sign != 0xD && sign != 0xF) return LC_SAP_TYPE;
  *negative = sign == 0xD;
  for (int64_t k = 0; k < digits; k++) {
    uint8_t digit = k % 2 == 0 ? cell->p[k / 2] >> 4 : cell->p[k / 2] & 0x0F;
    if (digit > 9) return LC_SAP_TYPE;
    if (k < 18)
      small = small * 10 + digit;
    else
      fits = fits && lc_u256_mul_add(magnitude, 10, digit);
    if (k == 17) magnitude->words[0] = small;
  }
  if (digits < 18) magnitude->words[0] = small;
  return fits ? 0 : LC_SAP_RANGE;
}

/* Move the point from `decimals` to the column's scale; 0 or a code. */
static int32_t rescale(lc_u256 *magnitude, int32_t by) {
  for (; by > 0; by--)
    if (!lc_u256_mul_add(magnitude, 10, 0)) return LC_SAP_RANGE;
  for (; by < 0; by++)
    if (lc_u256_divide(magnitude, 10) != 0) return LC_SAP_SCALE;
  return 0;
}

void lc_sap_read_packed(lc_sap_reader *r, lc_sap_column *column) {
  const lc_sap_field *field = column->field;
  for (int32_t i = 0; i < r->count; i++) {
    const lc_sap_cell *cell = &r->cell[i];
    if (cell->p == NULL) {
      lc_sap_null(r, column, i);
      continue;
    }
    lc_u256 magnitude = {{0}};
    bool negative = false, whole = cell->size > 0 && (cell->size == field->length || field->length == 0);
    int32_t code = whole ? unpack(cell, &magnitude, &negative) : LC_SAP_TYPE;
    if (code == 0) code = rescale(&magnitude, field->scale - field->decimals);
    if (code == 0 && lc_u256_compare(&magnitude, &column->decimal.limit) >= 0) code = LC_SAP_RANGE;
    if (code != 0) {
      lc_sap_reject(r, column, i, code);
      continue;
    }
    bool zero = (magnitude.words[0] | magnitude.words[1] | magnitude.words[2] | magnitude.words[3]) == 0;
    lc_decimal_store(&magnitude, negative && !zero, column->decimal.width,
                     column->values + (r->first + i) * column->decimal.width);
    null_if_initial(r, column, i);
  }
}

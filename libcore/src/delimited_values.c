/* One field's text to one cell: NULL words, escapes, and the grammar of each kind of value. */
#include "delimited_cells.h"

#include <math.h>

/* ---- words and escapes ---- */

static inline uint8_t lower(uint8_t c) { return (uint8_t)(c - 'A') < 26 ? c | 0x20 : c; }

static bool has_word(const uint8_t *words, int32_t size, const uint8_t *p, const uint8_t *end, bool fold) {
  for (int32_t at = 0; at < size;) {
    int32_t length = words[at] | words[at + 1] << 8;
    const uint8_t *word = words + at + 2;
    at += 2 + length;
    if (length != end - p) continue;
    int32_t i = 0;
    while (i < length && (p[i] == word[i] || (fold && lower(p[i]) == lower(word[i]))))
      i++;
    if (i == length) return true;
  }
  return false;
}

static uint8_t control(uint8_t letter) {
  switch (letter) {
    case 'b': return '\b';
    case 'f': return '\f';
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'v': return '\v';
    case '0': return 0;
    default: return letter;
  }
}

size_t lc_unescape(const lc_escapes *escapes, const uint8_t *p, const uint8_t *end, bool quoted, uint8_t *out) {
  uint8_t *w = out;
  while (p < end) {
    uint8_t c = *p++;
    if (escapes->escape != 0 && c == escapes->escape && p < end)
      c = escapes->letters ? control(*p++) : *p++;
    else if (quoted && escapes->doubled && c == escapes->quote && p < end && *p == c)
      p++;
    *w++ = c;
  }
  return (size_t)(w - out);
}

/* ---- values ---- */

static inline bool blank(uint8_t c) { return c == ' ' || c == '\t'; }

static inline void strip(const uint8_t **p, const uint8_t **end) {
  while (*p < *end && blank(**p))
    ++*p;
  while (*p < *end && blank((*end)[-1]))
    --*end;
}

static int append(lc_buffer *data, const uint8_t *p, size_t size) {
  if (!lc_buffer_append(data, p, size)) return size + data->size > INT32_MAX ? -LC_CAPACITY : -LC_NO_MEMORY;
  return 0;
}

static int set_text(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end, bool checked) {
  if (cells->encoding == NULL) {
    if (!checked && cells->kernels->utf8_fault(p, (size_t)(end - p)) >= 0) return LC_TEXT_UTF8;
    return append(&cell->data, p, (size_t)(end - p));
  }
  if (!lc_buffer_reserve(&cell->data, (size_t)(end - p) * 3))
    return (size_t)(end - p) * 3 + cell->data.size > INT32_MAX ? -LC_CAPACITY : -LC_NO_MEMORY;
  uint8_t *w = cell->data.data + cell->data.size;
  for (; p < end; p++) {
    unsigned point = cells->encoding[*p];
    if (point == 65535) return LC_TEXT_UTF8; /* what was written lies behind data.size */
    if (point < 0x80) {
      *w++ = (uint8_t)point;
    } else if (point < 0x800) {
      *w++ = (uint8_t)(0xC0 | point >> 6);
      *w++ = (uint8_t)(0x80 | (point & 63));
    } else {
      *w++ = (uint8_t)(0xE0 | point >> 12);
      *w++ = (uint8_t)(0x80 | (point >> 6 & 63));
      *w++ = (uint8_t)(0x80 | (point & 63));
    }
  }
  cell->data.size = (size_t)(w - cell->data.data);
  return 0;
}

/* Everyday numbers: at most 18 digits with the column's point and a sign.  false: the careful way decides. */
static inline bool quick_number(const lc_text_column *column, const uint8_t *p, const uint8_t *end, bool *negative,
                                uint64_t *digits, int32_t *count, int32_t *fraction) {
  if (column->implied > 0 || end - p > 20) return false;
  *negative = false;
  if (*p == '-' || *p == '+') *negative = *p++ == '-';
  else if (column->trailing_sign && (end[-1] == '-' || end[-1] == '+')) *negative = *--end == '-';
  uint64_t value = 0;
  const uint8_t *first = p, *point = NULL;
  for (; p < end; p++) {
    uint8_t digit = (uint8_t)(*p - '0');
    if (LC_LIKELY(digit < 10)) {
      value = value * 10 + digit;
    } else {
      if (*p != column->decimal || point != NULL) return false;
      point = p;
    }
  }
  *count = (int32_t)(end - first) - (point != NULL);
  *fraction = point == NULL ? 0 : (int32_t)(end - point) - 1;
  *digits = value;
  return *count > 0 && *count <= 18;
}

static int set_int(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end) {
  int64_t row = cells->rows, value;
  uint64_t digits;
  int32_t count, fraction;
  bool negative;
  if (LC_LIKELY(quick_number(cell->column, p, end, &negative, &digits, &count, &fraction)) && fraction == 0) {
    value = negative ? -(int64_t)digits : (int64_t)digits;
  } else {
    int code = lc_number_normalise(cell->column, p, end, &cells->number);
    uint8_t wide[16];
    if (code == 0)
      code = lc_decimal_from_text(cells->number.data, cells->number.data + cells->number.size, &cell->decimal, wide);
    if (code != 0) return code < 0 ? -LC_NO_MEMORY : code;
    uint64_t low = 0, high = 0;
    for (int i = 7; i >= 0; i--) {
      low = low << 8 | wide[i];
      high = high << 8 | wide[8 + i];
    }
    if (high != (low >> 63 ? ~0ull : 0)) return LC_TEXT_RANGE;
    memcpy(&value, &low, 8);
  }
  if (cell->column->layout.type == LC_TYPE_INT64) {
    ((int64_t *)(void *)cell->values)[row] = value;
  } else if (cell->column->layout.type == LC_TYPE_INT32) {
    if (value < INT32_MIN || value > INT32_MAX) return LC_TEXT_RANGE;
    ((int32_t *)(void *)cell->values)[row] = (int32_t)value;
  } else {
    if (value < INT16_MIN || value > INT16_MAX) return LC_TEXT_RANGE;
    ((int16_t *)(void *)cell->values)[row] = (int16_t)value;
  }
  return 0;
}

static int set_decimal(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end) {
  uint8_t *out = cell->values + cells->rows * cell->decimal.width;
  uint64_t digits;
  int32_t count, fraction;
  bool negative;
  if (LC_LIKELY(quick_number(cell->column, p, end, &negative, &digits, &count, &fraction))) {
    int32_t shift = cell->decimal.scale - fraction;
    if (LC_LIKELY(shift >= 0 && shift <= 19 && count + shift <= cell->decimal.precision)) {
      unsigned __int128 value = (unsigned __int128)digits * lc_pow10((unsigned)shift); /* below 10^37 */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
      if (LC_LIKELY(cell->decimal.width == 16)) {
        value = negative ? -value : value;
        memcpy(out, &value, 16);
        return 0;
      }
#endif
      lc_u256 magnitude = {{(uint64_t)value, (uint64_t)(value >> 64), 0, 0}};
      lc_decimal_store(&magnitude, negative && value != 0, cell->decimal.width, out);
      return 0;
    }
  }
  int code = lc_number_normalise(cell->column, p, end, &cells->number);
  if (code == 0)
    code = lc_decimal_from_text(cells->number.data, cells->number.data + cells->number.size, &cell->decimal, out);
  return code < 0 ? -LC_NO_MEMORY : code;
}

static int set_float(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end) {
  int code = lc_number_normalise(cell->column, p, end, &cells->number);
  if (code != 0) return code;
  const uint8_t *text = cells->number.data, *text_end = text + cells->number.size;
  bool negative = *text == '-', word = text[negative] == 'I';
  double value;
  if (word || *text == 'N')
    value = word ? (negative ? -HUGE_VAL : HUGE_VAL) : NAN;
  else
    value = lc_double_from_text(text, text_end);
  if (!word && isinf(value)) return LC_TEXT_RANGE;
  if (cell->column->layout.type == LC_TYPE_FLOAT64) {
    ((double *)(void *)cell->values)[cells->rows] = value;
    return 0;
  }
  float narrow = word || *text == 'N' ? (float)value : lc_float_of_text(value, text, text_end);
  if (!word && isinf(narrow)) return LC_TEXT_RANGE;
  ((float *)(void *)cell->values)[cells->rows] = narrow;
  return 0;
}

static int set_numeric(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end) {
  int code = lc_number_normalise(cell->column, p, end, &cells->number);
  if (code != 0) return code;
  code = lc_numeric_from_text(cells->number.data, cells->number.data + cells->number.size, &cell->data);
  return code < 0 ? -LC_NO_MEMORY : code;
}

static int hex_digit(uint8_t c) {
  if (lc_is_digit(c)) return c - '0';
  uint8_t letter = (uint8_t)(lower(c) - 'a');
  return letter < 6 ? letter + 10 : -1;
}

static int set_bytes(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end) {
  bool hex = cell->column->kind == LC_TEXT_KIND_HEX;
  if (hex && end - p >= 2 && p[0] == '\\' && p[1] == 'x') p += 2;
  size_t size = (size_t)(end - p);
  if (size == 0) return 0;
  if (!lc_buffer_reserve(&cell->data, size))
    return size + cell->data.size > INT32_MAX ? -LC_CAPACITY : -LC_NO_MEMORY;
  uint8_t *w = cell->data.data + cell->data.size;
  if (!hex) {
    int64_t made = lc_base64_decode(p, size, w);
    if (made < 0) return LC_TEXT_TYPE;
    cell->data.size += (size_t)made;
    return 0;
  }
  if (size % 2 != 0) return LC_TEXT_TYPE;
  for (; p < end; p += 2) {
    int high = hex_digit(p[0]), low = hex_digit(p[1]);
    if (high < 0 || low < 0) return LC_TEXT_TYPE;
    *w++ = (uint8_t)(high << 4 | low);
  }
  cell->data.size += size / 2;
  return 0;
}

static int set_clock(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end) {
  int64_t value;
  int code = lc_clock_read(cell->column, p, end, &value);
  if (code != 0) return code;
  if (cell->column->kind == LC_TEXT_KIND_DATE)
    ((int32_t *)(void *)cell->values)[cells->rows] = (int32_t)value; /* years have at most six digits */
  else
    ((int64_t *)(void *)cell->values)[cells->rows] = value;
  return 0;
}

static int set_null(lc_cells *cells, lc_cell *cell) {
  if (cell->column->required) return LC_TEXT_NULL;
  lc_bit_clear(cell->validity, cells->rows);
  return 0;
}

static int set_value(lc_cells *cells, lc_cell *cell, const uint8_t *p, const uint8_t *end, bool checked) {
  const lc_text_column *column = cell->column;
  if (column->kind == LC_TEXT_KIND_TEXT) return set_text(cells, cell, p, end, checked);
  if (column->kind == LC_TEXT_KIND_BOOL) {
    bool yes = has_word(column->true_words, column->true_size, p, end, true);
    if (yes || has_word(column->false_words, column->false_size, p, end, true)) {
      yes ? lc_bit_set(cell->values, cells->rows) : lc_bit_clear(cell->values, cells->rows);
      return 0;
    }
    return p == end ? set_null(cells, cell) : LC_TEXT_TYPE;
  }
  if (column->kind == LC_TEXT_KIND_HEX || column->kind == LC_TEXT_KIND_BASE64) return set_bytes(cells, cell, p, end);
  if (p == end) return set_null(cells, cell);
  switch (column->kind) {
    case LC_TEXT_KIND_INT: return set_int(cells, cell, p, end);
    case LC_TEXT_KIND_DECIMAL: return set_decimal(cells, cell, p, end);
    case LC_TEXT_KIND_FLOAT: return set_float(cells, cell, p, end);
    case LC_TEXT_KIND_NUMERIC: return set_numeric(cells, cell, p, end);
    default: return set_clock(cells, cell, p, end);
  }
}

int lc_cell_set(lc_cells *cells, int64_t c, lc_field field) {
  lc_cell *cell = &cells->cells[c];
  const lc_text_column *column = cell->column;
  const uint8_t *p = field.start, *end = field.end;
  bool quoted = field.flags & LC_FIELD_QUOTED, text = column->kind == LC_TEXT_KIND_TEXT;
  if (!quoted && (!text || column->trim == 2)) strip(&p, &end);
  while (column->trim == 1 && p < end && end[-1] == ' ')
    end--;
  int code = 0;
  if (column->null_size > 0 && (!quoted || cells->quoted_nulls) &&
      has_word(column->null_words, column->null_size, p, end, false)) {
    code = set_null(cells, cell);
  } else {
    if (LC_UNLIKELY(field.flags & LC_FIELD_ESCAPED)) {
      cells->plain.size = 0;
      if (!lc_buffer_reserve(&cells->plain, (size_t)(end - p))) return -LC_NO_MEMORY;
      end = cells->plain.data + lc_unescape(&cells->escapes, p, end, quoted, cells->plain.data);
      p = cells->plain.data;
    }
    if (quoted && !text) strip(&p, &end);
    code = set_value(cells, cell, p, end, field.flags & LC_FIELD_CHECKED);
  }
  if (cell->variable) ((int32_t *)(void *)cell->values)[cells->rows + 1] = (int32_t)cell->data.size;
  return code;
}

/* The text form of a PostgreSQL value into a cell; of everyday numbers by a short path. */
#include <math.h>

#include "pgoutput_internal.h"

int lc_pg_put_text(lc_pg_builder_column *c, int64_t row, const void *text, size_t size) {
  lc_buffer *data = &c->data;
  if (LC_UNLIKELY(data->capacity - data->size < size || data->size + size > INT32_MAX)) {
    if (!lc_buffer_reserve(data, size)) return data->size + size > INT32_MAX ? LC_PG_CAPACITY : LC_PG_NO_MEMORY;
  }
  if (size > 0) memcpy(data->data + data->size, text, size);
  data->size += size;
  ((int32_t *)(void *)c->values)[row + 1] = (int32_t)data->size;
  return 0;
}

static inline bool is_ascii(const uint8_t *p, int32_t size) {
  uint64_t seen = 0;
  int32_t i = 0;
  for (; i + 8 <= size; i += 8)
    seen |= lc_load64(p + i);
  for (; i < size; i++)
    seen |= p[i];
  return (seen & LC_HIGHS) == 0;
}

int lc_pg_put_utf8(lc_pg_decoder *d, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (LC_UNLIKELY(!is_ascii(p, size)) && d->kernels->utf8_fault(p, (size_t)size) >= 0) return LC_ROW_UTF8;
  return lc_pg_put_text(c, row, p, (size_t)size);
}

int lc_pg_put_int(lc_pg_builder_column *c, int64_t row, int64_t value) {
  if (c->width == 8) {
    lc_pg_store64(c, row, value);
  } else if (c->width == 4) {
    if (value != (int32_t)value) return LC_ROW_RANGE;
    lc_pg_store32(c, row, (int32_t)value);
  } else {
    int16_t small = (int16_t)value;
    if (value != small) return LC_ROW_RANGE;
    memcpy(c->values + row * 2, &small, 2);
  }
  return 0;
}

int lc_pg_put_float(lc_pg_builder_column *c, int64_t row, double value) {
  if (c->width == 8) {
    memcpy(c->values + row * 8, &value, 8);
    return 0;
  }
  float single = (float)value;
  if (isinf(single) && !isinf(value)) return LC_ROW_RANGE;
  memcpy(c->values + row * 4, &single, 4);
  return 0;
}

/* [-]digits of up to 19 digits that fit int64.  Reads past `end`, inside the padding. */
static int int_read(const uint8_t *p, const uint8_t *end, int64_t *value) {
  bool negative = p < end && *p == '-';
  p += negative;
  uint64_t magnitude;
  unsigned count;
  const uint8_t *after = lc_digits(p, &magnitude, &count);
  if (after < end) {
    while (after < end && lc_is_digit(*after))
      after++;
    return after == end ? LC_ROW_RANGE : LC_ROW_TYPE;
  }
  unsigned given = (unsigned)(end - p); /* what stands behind the value may look like digits too */
  if (given == 0) return LC_ROW_TYPE;
  if (given > 19) return LC_ROW_RANGE;
  if (after > end) {
    magnitude = 0;
    for (const uint8_t *q = p; q < end; q++)
      magnitude = magnitude * 10 + (uint64_t)(*q - '0');
  }
  if (magnitude > (uint64_t)INT64_MAX + negative) return LC_ROW_RANGE;
  *value = (int64_t)(negative ? 0 - magnitude : magnitude);
  return 0;
}

static int float_read(const lc_pg_builder_column *c, const uint8_t *p, const uint8_t *end, double *value) {
  const uint8_t *digits = p < end && *p == '-' ? p + 1 : p, *q = digits;
  size_t size = (size_t)(end - p);
  if (size == 3 && memcmp(p, "NaN", 3) == 0) return *value = NAN, 0;
  if (end - digits == 8 && memcmp(digits, "Infinity", 8) == 0) return *value = digits > p ? -INFINITY : INFINITY, 0;
  while (q < end && lc_is_digit(*q))
    q++;
  if (q == digits) return LC_ROW_TYPE;
  if (q < end && *q == '.') {
    const uint8_t *fraction = ++q;
    while (q < end && lc_is_digit(*q))
      q++;
    if (q == fraction) return LC_ROW_TYPE;
  }
  if (q < end && *q == 'e') {
    q++;
    if (q < end && (*q == '-' || *q == '+')) q++;
    const uint8_t *exponent = q;
    while (q < end && lc_is_digit(*q))
      q++;
    if (q == exponent) return LC_ROW_TYPE;
  }
  if (q != end) return LC_ROW_TYPE;
  *value = lc_double_from_text(p, end);
  if (c->width == 4) *value = lc_float_of_text(*value, p, end);
  return isinf(*value) ? LC_ROW_RANGE : 0;
}

/* Numbers of up to 18 digits that need no rescaling beyond 18; false: take the long way. */
static inline bool decimal_short(const lc_decimal_target *target, const uint8_t *p, const uint8_t *end, uint8_t *out) {
  bool negative = p < end && *p == '-';
  p += negative;
  if (end - p > 19 || p == end) return false;
  uint64_t value = 0;
  int digits = 0, fraction = -1;
  for (; p < end; p++) {
    if (lc_is_digit(*p)) {
      value = value * 10 + (uint64_t)(*p - '0');
      digits++;
    } else if (*p == '.' && fraction < 0) {
      fraction = digits;
    } else {
      return false;
    }
  }
  int scale = fraction < 0 ? 0 : digits - fraction, shift = target->scale - scale;
  if (digits == 0 || shift < 0 || digits + shift > 18) return false;
  value *= lc_pow10((unsigned)shift);
  if (target->precision < 18 && value >= lc_pow10((unsigned)target->precision)) return false;
  int64_t word = negative ? -(int64_t)value : (int64_t)value;
  uint64_t above = word < 0 ? UINT64_MAX : 0;
  lc_u256 stored = {{(uint64_t)word, above, above, above}};
  lc_decimal_store(&stored, false, target->width, out); /* the words are two's complement already */
  return true;
}

int lc_pg_put_numeric(lc_pg_builder_column *c, int64_t row, const uint8_t *p, const uint8_t *end) {
  if (c->variable) {
    int code = lc_numeric_from_text(p, end, &c->data);
    if (code != 0) return code > 0 ? code : c->data.size + LC_NUMERIC_DIGITS_MAX > INT32_MAX ? LC_PG_CAPACITY : code;
    ((int32_t *)(void *)c->values)[row + 1] = (int32_t)c->data.size;
    return 0;
  }
  uint8_t *cell = c->values + row * c->width;
  return decimal_short(&c->decimal, p, end, cell) ? 0 : lc_decimal_from_text(p, end, &c->decimal, cell);
}

static int hex(uint8_t c) {
  if (lc_is_digit(c)) return c - '0';
  c |= 0x20;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \x00ff, or bytes with \\ and \ooo. */
static int bytea_read(lc_pg_builder_column *c, int64_t row, const uint8_t *p, const uint8_t *end) {
  lc_buffer *data = &c->data;
  if (!lc_buffer_reserve(data, (size_t)(end - p)))
    return data->size + (size_t)(end - p) > INT32_MAX ? LC_PG_CAPACITY : LC_PG_NO_MEMORY;
  uint8_t *out = data->data + data->size;
  if (end - p >= 2 && p[0] == '\\' && p[1] == 'x') {
    if ((end - p) % 2 != 0) return LC_ROW_TYPE;
    for (p += 2; p < end; p += 2) {
      int high = hex(p[0]), low = hex(p[1]);
      if (high < 0 || low < 0) return LC_ROW_TYPE;
      *out++ = (uint8_t)(high << 4 | low);
    }
  }
  while (p < end) {
    if (*p != '\\') {
      *out++ = *p++;
    } else if (end - p >= 2 && p[1] == '\\') {
      *out++ = '\\';
      p += 2;
    } else if (end - p >= 4 && p[1] >= '0' && p[1] <= '3' && (p[2] & 0xf8) == '0' && (p[3] & 0xf8) == '0') {
      *out++ = (uint8_t)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
      p += 4;
    } else {
      return LC_ROW_TYPE;
    }
  }
  if (data->data != NULL) data->size = (size_t)(out - data->data); /* of nothing there may be no memory */
  ((int32_t *)(void *)c->values)[row + 1] = (int32_t)data->size;
  return 0;
}

int lc_pg_text(lc_pg_decoder *d, int32_t kind, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  const uint8_t *end = p + size;
  int64_t value;
  double number;
  int code;
  switch (kind) {
    case LC_PGOUTPUT_BOOL:
      if (size != 1 || (*p != 't' && *p != 'f')) return LC_ROW_TYPE;
      if (*p == 't')
        lc_bit_set(c->values, row);
      else
        lc_bit_clear(c->values, row);
      return 0;
    case LC_PGOUTPUT_INT:
    case LC_PGOUTPUT_OID:
      code = int_read(p, end, &value);
      return code != 0 ? code : lc_pg_put_int(c, row, value);
    case LC_PGOUTPUT_FLOAT:
      code = float_read(c, p, end, &number);
      return code != 0 ? code : lc_pg_put_float(c, row, number);
    case LC_PGOUTPUT_NUMERIC: return lc_pg_put_numeric(c, row, p, end);
    case LC_PGOUTPUT_BYTEA: return bytea_read(c, row, p, end);
    case LC_PGOUTPUT_DATE:
      code = lc_pg_time_read(kind, p, end, &value);
      if (code == 0) lc_pg_store32(c, row, (int32_t)value);
      return code;
    case LC_PGOUTPUT_TIME:
    case LC_PGOUTPUT_TIMESTAMP:
    case LC_PGOUTPUT_TIMESTAMPTZ:
      code = lc_pg_time_read(kind, p, end, &value);
      if (code == 0) lc_pg_store64(c, row, value);
      return code;
    default: return lc_pg_put_utf8(d, c, row, p, size);
  }
}

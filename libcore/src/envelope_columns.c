/* One JSON value into one cell, for every encoding but ARRAY. */
#include <math.h>

#include "envelope_values.h"
#include "time_text.h"

#define PLAIN_US_MAX 9000000000000000000ll /* microseconds up to here are no infinity of a driver's */

static inline void store32(column_t *column, int64_t row, int32_t value) {
  memcpy(column->values + row * 4, &value, 4);
}
static inline void store64(column_t *column, int64_t row, int64_t value) {
  memcpy(column->values + row * 8, &value, 8);
}

enum { BLOCK_BYTES = 32 };

/* Give a text cell its bytes. */
static inline bool text_store(lc_decoder *d, column_t *column, int64_t row, const uint8_t *text, size_t size) {
  lc_buffer *data = &column->data;
  bool inside = text >= d->start && text < d->end; /* a message has padding behind it, unescaped text has none */
  if (LC_LIKELY(inside && size <= BLOCK_BYTES && data->capacity - data->size >= BLOCK_BYTES)) {
    memcpy(data->data + data->size, text, BLOCK_BYTES);
    data->size += size;
    ((int32_t *)(void *)column->values)[row + 1] = (int32_t)data->size;
    return true;
  }
  if (LC_UNLIKELY(data->capacity - data->size < size || data->size + size > INT32_MAX)) {
    if (!lc_buffer_reserve(data, size)) {
      lc_decoder_fails(d, data->size + size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
      return false;
    }
  }
  if (size > 0) memcpy(data->data + data->size, text, size); /* without a byte so far there may be no memory */
  data->size += size;
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)data->size;
  return true;
}

static inline bool is_placeholder_object(const lc_decoder *d, const column_t *column, const uint8_t *text,
                                         size_t size) {
  return !column->element && LC_UNLIKELY(size == d->placeholder_object_size) &&
         memcmp(text, d->placeholder_object, size) == 0;
}

const uint8_t *lc_text_read(lc_decoder *d, const uint8_t *p, const uint8_t **text, size_t *size,
                            const uint8_t **surrogate) {
  const uint8_t *q = lc_short_string_end(p + 1, d->end, d->kernels);
  *surrogate = NULL;
  if (LC_LIKELY(*q == '"')) {
    *text = p + 1;
    *size = (size_t)(q - p - 1);
    return q + 1;
  }
  lc_json_fault fault;
  q = p < d->end ? lc_json_skip(p, d->end, 0, d->kernels, &fault) : NULL;
  if (q == NULL) return NULL; /* the careful path finds where */
  size_t room = (size_t)(q - p);
  d->text.size = 0;
  if (d->text.capacity < room && !lc_buffer_reserve(&d->text, room)) return lc_decoder_fails(d, LC_NO_MEMORY);
  lc_unescaped unescaped = lc_json_unescape(p + 1, q - 1, d->text.data);
  *surrogate = unescaped.surrogate;
  *text = d->text.data;
  *size = unescaped.size;
  return q;
}

const uint8_t *lc_text_take(lc_decoder *d, const lc_decode_column *column, const uint8_t *p, const uint8_t **text,
                            size_t *size) {
  const uint8_t *surrogate, *after = lc_text_read(d, p, text, size, &surrogate);
  if (after != NULL && surrogate != NULL) return lc_fault(d, LC_ROW_SURROGATE, surrogate, column);
  return after;
}

static const uint8_t *int_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  int64_t value;
  const uint8_t *after = int_take(d, column, p, &value);
  if (after == NULL) return NULL;
  if (column->width == 8) {
    store64(column, row, value);
  } else if (column->width == 4) {
    if (value != (int32_t)value) return lc_fault(d, LC_ROW_RANGE, p, column);
    store32(column, row, (int32_t)value);
  } else {
    if (value != (int16_t)value) return lc_fault(d, LC_ROW_RANGE, p, column);
    int16_t small = (int16_t)value;
    memcpy(column->values + row * 2, &small, 2);
  }
  return after;
}

static const uint8_t *bool_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  if (lc_is4(p, "true")) {
    lc_bit_set(column->values, row);
    return p + 4;
  }
  if (*p != 'f' || !lc_is4(p + 1, "alse")) return type_fault(d, column, p);
  lc_bit_clear(column->values, row);
  return p + 5;
}

static const uint8_t *float_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  double value;
  const uint8_t *after;
  if (*p == '"') {
    const uint8_t *text;
    size_t size;
    after = lc_text_take(d, column, p, &text, &size);
    if (after == NULL) return NULL;
    if (is_bytes(text, size, (const uint8_t *)"NaN", 3))
      value = NAN;
    else if (is_bytes(text, size, (const uint8_t *)"Infinity", 8))
      value = INFINITY;
    else if (is_bytes(text, size, (const uint8_t *)"-Infinity", 9))
      value = -INFINITY;
    else
      return type_fault(d, column, p);
  } else {
    if (*p != '-' && !lc_is_digit(*p)) return type_fault(d, column, p);
    after = lc_number_skip(d, p);
    if (after == NULL || after > d->end) return type_fault(d, column, p);
    value = lc_double_from_text(p, after);
    if (isinf(value)) return lc_fault(d, LC_ROW_RANGE, p, column);
    if (column->width == 4) value = lc_float_of_text(value, p, after);
  }
  if (column->width == 8) {
    memcpy(column->values + row * 8, &value, 8);
  } else {
    float single = (float)value;
    memcpy(column->values + row * 4, &single, 4);
  }
  return after;
}

/* The text of a string; NULL, with the fault said, where the value is none. */
static inline const uint8_t *string_take(lc_decoder *d, column_t *column, const uint8_t *p, const uint8_t **text,
                                         size_t *size) {
  if (*p != '"') return type_fault(d, column, p);
  const uint8_t *after = lc_text_take(d, column, p, text, size);
  return after == NULL || after > d->end ? NULL : after;
}

/* Room for that many decoded bytes, from the first on. */
static bool bytes_room(lc_decoder *d, size_t size) {
  d->bytes.size = 0;
  return d->bytes.capacity >= size || lc_buffer_reserve(&d->bytes, size);
}

static inline const uint8_t *string_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  const uint8_t *text;
  size_t size;
  const uint8_t *after = string_take(d, column, p, &text, &size);
  if (after == NULL) return NULL;
  if (is_placeholder(d, column, text, size) || is_placeholder_object(d, column, text, size))
    return cell_unset(column, row, after);
  return text_store(d, column, row, text, size) ? after : NULL;
}

const uint8_t *lc_bytes_take(lc_decoder *d, column_t *column, const uint8_t *p, bool *placeholder) {
  const uint8_t *text;
  size_t size;
  const uint8_t *after = string_take(d, column, p, &text, &size);
  if (after == NULL) return NULL;
  *placeholder = !column->element && is_bytes(text, size, d->placeholder_base64, d->placeholder_base64_size);
  if (!bytes_room(d, size)) return lc_decoder_fails(d, LC_NO_MEMORY);
  int64_t decoded = lc_base64_decode(text, size, d->bytes.data);
  if (decoded < 0) return lc_fault(d, LC_ROW_BASE64, p, column);
  d->bytes.size = (size_t)decoded;
  return after;
}

static const uint8_t *base64_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  bool placeholder;
  const uint8_t *after = lc_bytes_take(d, column, p, &placeholder);
  if (after == NULL) return NULL;
  if (placeholder) return cell_unset(column, row, after);
  return text_store(d, column, row, d->bytes.data, d->bytes.size) ? after : NULL;
}

static const uint8_t *bits_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  bool placeholder;
  const uint8_t *after = lc_bytes_take(d, column, p, &placeholder);
  if (after == NULL) return NULL;
  if (placeholder) return cell_unset(column, row, after);
  size_t length = (size_t)column->wire->bit_length, given = d->bytes.size * 8;
  for (size_t i = length; i < given; i++)
    if (lc_bit_get(d->bytes.data, (int64_t)i)) return lc_fault(d, LC_ROW_RANGE, p, column);
  lc_buffer *data = &column->data;
  if (!lc_buffer_reserve(data, length))
    return lc_decoder_fails(d, data->size + length > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
  for (size_t i = length; i-- > 0;)
    data->data[data->size++] = i < given && lc_bit_get(d->bytes.data, (int64_t)i) ? '1' : '0';
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)data->size;
  return after;
}

static int hex_digit(uint8_t c) {
  uint8_t letter = (uint8_t)((c | 0x20) - 'a');
  return lc_is_digit(c) ? c - '0' : letter < 6 ? letter + 10 : -1;
}

static const uint8_t *hex_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  const uint8_t *text;
  size_t size;
  const uint8_t *after = string_take(d, column, p, &text, &size);
  if (after == NULL) return NULL;
  if (!bytes_room(d, size)) return lc_decoder_fails(d, LC_NO_MEMORY);
  int bad = size % 2 == 0 ? 0 : -1;
  for (size_t i = 0; i + 1 < size; i += 2) {
    int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
    bad |= high | low; /* negative as soon as one is */
    d->bytes.data[i / 2] = (uint8_t)(((unsigned)high << 4) | ((unsigned)low & 15));
  }
  if (bad < 0) return type_fault(d, column, p);
  return text_store(d, column, row, d->bytes.data, size / 2) ? after : NULL;
}

static const uint8_t *date_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  int64_t value;
  const uint8_t *after = int_take(d, column, p, &value);
  if (after == NULL) return NULL;
  if (value != (int32_t)value) return lc_fault(d, LC_ROW_RANGE, p, column);
  store32(column, row, lc_date_settle((int32_t)value));
  return after;
}

static const uint8_t *clock_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  int64_t value;
  const uint8_t *after = int_take(d, column, p, &value);
  if (after == NULL) return NULL;
  bool same_unit = column->wire->encoding == LC_ENCODING_TIMESTAMP_US && column->wire->scale == 6;
  if (LC_UNLIKELY(!same_unit || value > PLAIN_US_MAX || value < -PLAIN_US_MAX)) {
    int code = lc_clock_convert(column->wire->encoding, column->wire->scale, &value);
    if (code != 0) return lc_fault(d, code, p, column);
  }
  store64(column, row, value);
  return after;
}

static const uint8_t *iso_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  const uint8_t *text;
  size_t size;
  const uint8_t *after = string_take(d, column, p, &text, &size);
  if (after == NULL) return NULL;
  int32_t encoding = column->wire->encoding;
  if (encoding == LC_ENCODING_NAMED_TIMESTAMP) {
    const uint8_t *blank = size > 0 ? memchr(text, ' ', size) : NULL;
    size = blank == NULL ? size : (size_t)(blank - text);
    encoding = LC_ENCODING_ZONED_TIMESTAMP;
  }
  int64_t value;
  int code = lc_iso_read(encoding, column->wire->scale, text, text + size, &value);
  if (code != 0) return lc_fault(d, code, p, column);
  if (column->width == 4)
    store32(column, row, (int32_t)value);
  else
    store64(column, row, value);
  return after;
}

static const uint8_t *raw_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  if (*p == '"') return string_decode(d, column, row, p);
  lc_json_fault fault;
  const uint8_t *after = lc_json_skip(p, d->end, d->depth, d->kernels, &fault);
  if (after == NULL) return NULL;
  size_t size = (size_t)(after - p);
  if (is_placeholder_object(d, column, p, size)) return cell_unset(column, row, after);
  return text_store(d, column, row, p, size) ? after : NULL;
}

const uint8_t *lc_value_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  column->good = true;
  if (LC_UNLIKELY(*p == 'n')) {
    if (!lc_is4(p, "null")) return NULL;
    column->good = false;
    lc_cell_null(column, row);
    return p + 4;
  }
  switch (column->wire->encoding) {
    case LC_ENCODING_INT: return int_decode(d, column, row, p);
    case LC_ENCODING_BOOL: return bool_decode(d, column, row, p);
    case LC_ENCODING_FLOAT: return float_decode(d, column, row, p);
    case LC_ENCODING_STRING: return string_decode(d, column, row, p);
    case LC_ENCODING_BASE64: return base64_decode(d, column, row, p);
    case LC_ENCODING_DECIMAL_TEXT: return lc_decimal_text_decode(d, column, row, p);
    case LC_ENCODING_DECIMAL_BASE64: return lc_decimal_base64_decode(d, column, row, p);
    case LC_ENCODING_NUMERIC_TEXT: return lc_numeric_text_decode(d, column, row, p);
    case LC_ENCODING_NUMERIC_STRUCT: return lc_numeric_struct_decode(d, column, row, p);
    case LC_ENCODING_DATE_DAYS: return date_decode(d, column, row, p);
    case LC_ENCODING_TIME_MS:
    case LC_ENCODING_TIME_US:
    case LC_ENCODING_TIME_NS:
    case LC_ENCODING_TIMESTAMP_MS:
    case LC_ENCODING_TIMESTAMP_US:
    case LC_ENCODING_TIMESTAMP_NS: return clock_decode(d, column, row, p);
    case LC_ENCODING_ZONED_TIMESTAMP:
    case LC_ENCODING_ISO_DATE:
    case LC_ENCODING_ISO_TIME:
    case LC_ENCODING_ISO_TIMESTAMP:
    case LC_ENCODING_NAMED_TIMESTAMP: return iso_decode(d, column, row, p);
    case LC_ENCODING_BITS: return bits_decode(d, column, row, p);
    case LC_ENCODING_RAW_JSON: return raw_decode(d, column, row, p);
    case LC_ENCODING_ARRAY: return lc_array_decode(d, column, row, p);
    case LC_ENCODING_DECIMAL_STRUCT: return lc_decimal_struct_decode(d, column, row, p);
    case LC_ENCODING_HEX: return hex_decode(d, column, row, p);
    default: return lc_decoder_fails(d, LC_INVALID); /* the plan was checked */
  }
}

/* One Avro value into one cell, for every encoding. */
#include <math.h>
#include <stdio.h>

#include "avro_internal.h"
#include "time_text.h"

typedef struct lc_decode_column column_t;
typedef lc_avro_node node_t;

static inline void store32(column_t *column, int64_t row, int32_t value) {
  memcpy(column->values + row * 4, &value, 4);
}
static inline void store64(column_t *column, int64_t row, int64_t value) {
  memcpy(column->values + row * 8, &value, 8);
}

/* A value fault at p; reading goes on behind the value. */
static const uint8_t *fault(lc_avro *a, const column_t *column, int32_t code, const uint8_t *p, const uint8_t *after) {
  if (after != NULL) lc_fault_note(&a->d, code, p, column);
  return after;
}

/* A value of another kind than the column takes. */
static const uint8_t *other_kind(lc_avro *a, column_t *column, const node_t *node, const uint8_t *p, int depth) {
  return fault(a, column, LC_ROW_TYPE, p, lc_avro_skip(a, node, p, depth));
}

static void unset(column_t *column, int64_t row) {
  column->unset = true;
  column->good = false;
  lc_cell_null(column, row);
}

static inline bool is_number(const node_t *node) { return node->kind == LC_AVRO_INT || node->kind == LC_AVRO_LONG; }
static inline bool is_bytes(const node_t *node) { return node->kind == LC_AVRO_BYTES || node->kind == LC_AVRO_FIXED; }

static inline bool is_text(const uint8_t *text, size_t size, const uint8_t *other, size_t other_size) {
  return LC_UNLIKELY(size == other_size) && memcmp(text, other, size) == 0;
}

static inline bool is_placeholder(const lc_avro *a, const column_t *column, const uint8_t *text, size_t size) {
  return !column->element && is_text(text, size, a->d.plan->placeholder, (size_t)a->d.plan->placeholder_size);
}

static inline bool is_placeholder_object(const lc_avro *a, const column_t *column, const uint8_t *text, size_t size) {
  return !column->element && is_text(text, size, a->d.placeholder_object, a->d.placeholder_object_size);
}

static inline bool text_store(lc_avro *a, column_t *column, int64_t row, const uint8_t *text, size_t size) {
  lc_buffer *data = &column->data;
  if (LC_UNLIKELY(data->capacity - data->size < size || data->size + size > INT32_MAX)) {
    if (!lc_buffer_reserve(data, size)) {
      lc_decoder_fails(&a->d, data->size + size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
      return false;
    }
  }
  if (size > 0) memcpy(data->data + data->size, text, size);
  data->size += size;
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)data->size;
  return true;
}

/* The text of an enum, a string, or bytes. */
static const uint8_t *text_take(lc_avro *a, const node_t *node, const uint8_t *p, const uint8_t **text, size_t *size) {
  if (node->kind != LC_AVRO_ENUM) return lc_avro_bytes(a, node, p, text, size);
  int64_t index = 0;
  p = lc_avro_index(a, node, p, &index);
  if (p == NULL) return NULL;
  const lc_avro_part *symbol = lc_avro_part_at(a, node, index);
  *text = (const uint8_t *)symbol->name;
  *size = (size_t)symbol->name_size;
  return p;
}

static inline const uint8_t *string_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node,
                                         const uint8_t *p, int depth) {
  const uint8_t *text;
  size_t size;
  if (node->kind != LC_AVRO_STRING && node->kind != LC_AVRO_BYTES && node->kind != LC_AVRO_ENUM)
    return other_kind(a, column, node, p, depth);
  const uint8_t *after = text_take(a, node, p, &text, &size);
  if (LC_UNLIKELY(after == NULL)) return NULL;
  if (is_placeholder(a, column, text, size) || is_placeholder_object(a, column, text, size)) {
    unset(column, row);
    return after;
  }
  if (LC_UNLIKELY(!lc_avro_utf8(a, column, text, size))) return after;
  return text_store(a, column, row, text, size) ? after : NULL;
}

static const uint8_t *bytes_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                 int depth) {
  const uint8_t *text;
  size_t size;
  if (!is_bytes(node) && node->kind != LC_AVRO_STRING) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_bytes(a, node, p, &text, &size);
  if (after == NULL) return NULL;
  if (is_placeholder(a, column, text, size))
    unset(column, row);
  else if (!text_store(a, column, row, text, size))
    return NULL;
  return after;
}

static const uint8_t *bits_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                int depth) {
  const uint8_t *bytes;
  size_t size, length = (size_t)column->wire->bit_length;
  if (!is_bytes(node)) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_bytes(a, node, p, &bytes, &size);
  if (after == NULL) return NULL;
  if (is_placeholder(a, column, bytes, size)) {
    unset(column, row);
    return after;
  }
  for (size_t i = length; i < size * 8; i++)
    if (lc_bit_get(bytes, (int64_t)i)) return fault(a, column, LC_ROW_RANGE, p, after);
  lc_buffer *data = &column->data;
  if (!lc_buffer_reserve(data, length))
    return lc_decoder_fails(&a->d, data->size + length > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
  for (size_t i = length; i-- > 0;)
    data->data[data->size++] = i < size * 8 && lc_bit_get(bytes, (int64_t)i) ? '1' : '0';
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)data->size;
  return after;
}

/* INT and DATE_DAYS. */
static inline const uint8_t *int_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                      int depth) {
  int64_t value = 0;
  if (!is_number(node)) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_number(a, node->kind, p, &value);
  if (LC_UNLIKELY(after == NULL)) return NULL;
  if (column->width == 8) {
    store64(column, row, value);
  } else if (column->width == 4) {
    if (value != (int32_t)value) return fault(a, column, LC_ROW_RANGE, p, after);
    if (column->wire->encoding == LC_ENCODING_DATE_DAYS) value = lc_date_settle((int32_t)value);
    store32(column, row, (int32_t)value);
  } else {
    if (value != (int16_t)value) return fault(a, column, LC_ROW_RANGE, p, after);
    int16_t small = (int16_t)value;
    memcpy(column->values + row * 2, &small, 2);
  }
  return after;
}

static const uint8_t *bool_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                int depth) {
  if (node->kind != LC_AVRO_BOOLEAN) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_skip(a, node, p, depth);
  if (after == NULL) return NULL;
  if (*p)
    lc_bit_set(column->values, row);
  else
    lc_bit_clear(column->values, row);
  return after;
}

/* The value of a float, a double, an int or a long as a double. */
static const uint8_t *double_take(lc_avro *a, const node_t *node, const uint8_t *p, double *value) {
  int64_t number = 0;
  const uint8_t *after = lc_avro_skip(a, node, p, 0);
  if (after == NULL) return NULL;
  if (node->kind == LC_AVRO_DOUBLE) {
    *value = lc_avro_double(p);
  } else if (node->kind == LC_AVRO_FLOAT) {
    *value = (double)lc_avro_float(p);
  } else {
    lc_avro_long(a, p, &number);
    *value = (double)number;
  }
  return after;
}

static const uint8_t *float_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                 int depth) {
  double value;
  if (node->kind != LC_AVRO_DOUBLE && node->kind != LC_AVRO_FLOAT && !is_number(node))
    return other_kind(a, column, node, p, depth);
  const uint8_t *after = double_take(a, node, p, &value);
  if (after == NULL) return NULL;
  if (column->width == 8) {
    memcpy(column->values + row * 8, &value, 8);
  } else {
    float single = (float)value;
    memcpy(column->values + row * 4, &single, 4);
  }
  return after;
}

/* Turn a code of number.h into the answer of a cell. */
static const uint8_t *numbered(lc_avro *a, column_t *column, int64_t row, int code, const uint8_t *p,
                               const uint8_t *after) {
  if (code < 0) return lc_decoder_fails(&a->d, LC_NO_MEMORY);
  if (code > 0) return fault(a, column, code, p, after);
  if (column->variable) ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
  return after;
}

/* DECIMAL_TEXT and NUMERIC_TEXT: a string, or an int or a long as its digits. */
static const uint8_t *number_text_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                       int depth) {
  const uint8_t *text, *after;
  size_t size;
  char digits[24];
  if (node->kind == LC_AVRO_STRING) {
    after = lc_avro_bytes(a, node, p, &text, &size);
    if (after == NULL) return NULL;
    if (is_placeholder(a, column, text, size)) {
      unset(column, row);
      return after;
    }
  } else if (is_number(node)) {
    int64_t number;
    after = lc_avro_number(a, node->kind, p, &number);
    if (after == NULL) return NULL;
    text = (const uint8_t *)digits;
    size = (size_t)snprintf(digits, sizeof digits, "%lld", (long long)number);
  } else {
    return other_kind(a, column, node, p, depth);
  }
  int code = column->variable ? lc_numeric_from_text(text, text + size, &column->data)
                              : lc_decimal_from_text(text, text + size, &column->decimal,
                                                     column->values + row * column->width);
  return numbered(a, column, row, code, p, after);
}

/* Two's complement of at most 8 bytes, as nearly all money is, at the column's own scale; false: the long way. */
static inline bool decimal_short(const column_t *column, const uint8_t *bytes, size_t size, uint8_t *out) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  if (size == 0 || size > 8 || column->width != 16 || column->wire->wire_scale != column->decimal.scale) return false;
  int64_t value = (int8_t)bytes[0];
  for (size_t i = 1; i < size; i++)
    value = (int64_t)((uint64_t)value << 8 | bytes[i]);
  uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
  if (column->decimal.precision < 19 && magnitude >= lc_pow10((unsigned)column->decimal.precision)) return false;
  __int128 wide = value;
  memcpy(out, &wide, 16);
  return true;
#else
  return false;
#endif
}

static inline const uint8_t *decimal_bytes_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node,
                                                const uint8_t *p, int depth) {
  const uint8_t *bytes;
  size_t size;
  if (!is_bytes(node)) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_bytes(a, node, p, &bytes, &size);
  if (LC_UNLIKELY(after == NULL)) return NULL;
  if (is_placeholder(a, column, bytes, size)) {
    unset(column, row);
    return after;
  }
  uint8_t *out = column->values + row * column->width;
  if (LC_LIKELY(decimal_short(column, bytes, size, out))) return after;
  return numbered(a, column, row, lc_decimal_from_bytes(bytes, size, column->wire->wire_scale, &column->decimal, out),
                  p, after);
}

/* NUMERIC_STRUCT and DECIMAL_STRUCT. */
static const uint8_t *number_struct_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node,
                                         const uint8_t *p, int depth) {
  const uint8_t *first = p, *bytes = NULL, *after = lc_avro_skip(a, node, p, depth);
  size_t size = 0;
  int64_t scale = 0;
  bool scale_seen = false;
  if (after == NULL || node->kind != LC_AVRO_RECORD) return fault(a, column, LC_ROW_TYPE, first, after);
  for (int32_t f = 0; f < node->count; f++) {
    const lc_avro_part *field = lc_avro_part_at(a, node, f);
    const node_t *inner = lc_avro_node_at(a, field->node);
    const uint8_t *value = lc_avro_resolve(a, &inner, p);
    if (field->role == 0 && is_number(inner)) {
      lc_avro_long(a, value, &scale);
      scale_seen = true;
    } else if (field->role == 1 && is_bytes(inner)) {
      lc_avro_bytes(a, inner, value, &bytes, &size);
    }
    p = lc_avro_skip(a, inner, value, depth + 1);
  }
  if (!scale_seen || bytes == NULL) return fault(a, column, LC_ROW_TYPE, first, after);
  if (scale != (int32_t)scale) return fault(a, column, LC_ROW_RANGE, first, after);
  int code = column->variable ? lc_numeric_from_bytes(bytes, size, (int32_t)scale, &column->data)
                              : lc_decimal_from_bytes(bytes, size, (int32_t)scale, &column->decimal,
                                                      column->values + row * column->width);
  return numbered(a, column, row, code, first, after);
}

static inline const uint8_t *clock_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node,
                                        const uint8_t *p, int depth) {
  int64_t value = 0;
  if (!is_number(node)) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_number(a, node->kind, p, &value);
  if (LC_UNLIKELY(after == NULL)) return NULL;
  int code = lc_clock_convert(column->wire->encoding, column->wire->scale, &value);
  if (LC_UNLIKELY(code != 0)) return fault(a, column, code, p, after);
  store64(column, row, value);
  return after;
}

static const uint8_t *iso_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                               int depth) {
  const uint8_t *text;
  size_t size;
  int64_t value = 0;
  if (node->kind != LC_AVRO_STRING) return other_kind(a, column, node, p, depth);
  const uint8_t *after = lc_avro_bytes(a, node, p, &text, &size);
  if (after == NULL) return NULL;
  int code = lc_iso_read(column->wire->encoding, column->wire->scale, text, text + size, &value);
  if (code != 0) return fault(a, column, code, p, after);
  if (column->width == 4)
    store32(column, row, (int32_t)value);
  else
    store64(column, row, value);
  return after;
}

static const uint8_t *json_cell(lc_avro *a, column_t *column, int64_t row, const node_t *node, const uint8_t *p,
                                int depth) {
  if (node->kind == LC_AVRO_STRING) return string_cell(a, column, row, node, p, depth);
  lc_buffer *literal = &a->d.literal;
  size_t from = literal->size; /* inside an array its literal stands there already */
  p = lc_avro_json(a, column, node, p, depth);
  if (p == NULL) return NULL;
  const uint8_t *text = literal->data + from;
  size_t size = literal->size - from;
  literal->size = from;
  if (is_placeholder_object(a, column, text, size)) {
    unset(column, row);
    return p;
  }
  return text_store(a, column, row, text, size) ? p : NULL;
}

const uint8_t *lc_avro_cell(lc_avro *a, lc_decode_column *column, int64_t row, const lc_avro_node *node,
                            const uint8_t *p, int depth) {
  p = lc_avro_resolve(a, &node, p);
  if (LC_UNLIKELY(p == NULL)) return NULL;
  if (node->kind == LC_AVRO_NULL) {
    column->good = false;
    lc_cell_null(column, row);
    return p;
  }
  column->good = true;
  switch (column->wire->encoding) {
    case LC_ENCODING_INT:
    case LC_ENCODING_DATE_DAYS: return int_cell(a, column, row, node, p, depth);
    case LC_ENCODING_BOOL: return bool_cell(a, column, row, node, p, depth);
    case LC_ENCODING_FLOAT: return float_cell(a, column, row, node, p, depth);
    case LC_ENCODING_STRING: return string_cell(a, column, row, node, p, depth);
    case LC_ENCODING_BASE64: return bytes_cell(a, column, row, node, p, depth);
    case LC_ENCODING_DECIMAL_TEXT:
    case LC_ENCODING_NUMERIC_TEXT: return number_text_cell(a, column, row, node, p, depth);
    case LC_ENCODING_DECIMAL_BASE64: return decimal_bytes_cell(a, column, row, node, p, depth);
    case LC_ENCODING_NUMERIC_STRUCT:
    case LC_ENCODING_DECIMAL_STRUCT: return number_struct_cell(a, column, row, node, p, depth);
    case LC_ENCODING_TIME_MS:
    case LC_ENCODING_TIME_US:
    case LC_ENCODING_TIME_NS:
    case LC_ENCODING_TIMESTAMP_MS:
    case LC_ENCODING_TIMESTAMP_US:
    case LC_ENCODING_TIMESTAMP_NS: return clock_cell(a, column, row, node, p, depth);
    case LC_ENCODING_ZONED_TIMESTAMP:
    case LC_ENCODING_ISO_DATE:
    case LC_ENCODING_ISO_TIME:
    case LC_ENCODING_ISO_TIMESTAMP: return iso_cell(a, column, row, node, p, depth);
    case LC_ENCODING_BITS: return bits_cell(a, column, row, node, p, depth);
    case LC_ENCODING_RAW_JSON: return json_cell(a, column, row, node, p, depth);
    case LC_ENCODING_ARRAY: return lc_avro_array(a, column, row, node, p, depth);
    default: return lc_decoder_fails(&a->d, LC_INVALID); /* the plan was checked */
  }
}

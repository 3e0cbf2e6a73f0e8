/* A JSON array into a text cell: the PostgreSQL array literal {1,NULL,"a"} of one dimension. */
#include <stdio.h>

#include "envelope_shared.h"
#include "envelope_values.h"
#include "time_text.h"

/* Debezium writes inner arrays of an array of more dimensions as Java prints them, "[Ljava.lang.String;@1a2b": data
 * lost. */
bool lc_is_java_print(const uint8_t *text, size_t size) {
  const uint8_t *end = text + size;
  if (size < 4 || *text != '[') return false;
  while (text < end && *text == '[')
    text++;
  if (text < end && *text == 'L') {
    const uint8_t *semicolon = memchr(text, ';', (size_t)(end - text));
    if (semicolon == NULL || semicolon == text + 1) return false;
    text = semicolon + 1;
  } else if (text < end && memchr("BCDFIJSZ", *text, 8) != NULL) {
    text++;
  } else {
    return false;
  }
  if (text >= end || *text++ != '@' || text == end) return false;
  for (; text < end; text++)
    if (!lc_is_digit(*text) && (*text < 'a' || *text > 'f')) return false;
  return true;
}

bool lc_literal_put(lc_decoder *d, const void *text, size_t size) {
  if (lc_buffer_append(&d->literal, text, size)) return true;
  lc_decoder_fails(d, d->literal.size + size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
  return false;
}

bool lc_literal_quoted(lc_decoder *d, const uint8_t *text, size_t size) {
  bool good = lc_literal_put(d, "\"", 1);
  for (size_t i = 0, from = 0; good && i <= size; i++) {
    bool escape = i < size && (text[i] == '"' || text[i] == '\\');
    if (!escape && i < size) continue;
    /* of an empty text there may be no bytes to point at */
    good = lc_literal_put(d, i > from ? (const void *)(text + from) : "", i - from) &&
           (!escape || lc_literal_put(d, "\\", 1));
    from = i;
  }
  return good && lc_literal_put(d, "\"", 1);
}

bool lc_literal_bytes(lc_decoder *d, const uint8_t *bytes, size_t size) {
  static const char hex[] = "0123456789abcdef";
  bool good = lc_literal_put(d, "\"\\\\x", 4);
  for (size_t i = 0; good && i < size; i++)
    good = lc_literal_put(d, (char[2]){hex[bytes[i] >> 4], hex[bytes[i] & 15]}, 2);
  return good && lc_literal_put(d, "\"", 1);
}

/* A value that is a string or stands for itself in JSON, as it is given: texts of times quoted, numbers and words not.
 */
static bool put_given(lc_decoder *d, const lc_decode_column *item, const uint8_t *p, const uint8_t *after,
                      bool quoted) {
  const uint8_t *text;
  size_t size;
  if (*p != '"') return lc_literal_put(d, p, (size_t)(after - p));
  if (lc_text_take(d, item, p, &text, &size) == NULL) return false;
  return quoted ? lc_literal_quoted(d, text, size) : lc_literal_put(d, text, size);
}

/* The element's cell (row 0 of `item`) as literal text; `p`..`after` is its JSON. */
static bool put_cell(lc_decoder *d, const lc_decode_column *item, const uint8_t *p, const uint8_t *after) {
  char text[96];
  int64_t value = 0;
  switch (item->wire->type) {
    case LC_TYPE_BOOL: return lc_literal_put(d, lc_bit_get(item->values, 0) ? "t" : "f", 1);
    case LC_TYPE_FLOAT32:
    case LC_TYPE_FLOAT64: return put_given(d, item, p, after, false);
    case LC_TYPE_INT16: value = *(const int16_t *)(const void *)item->values; break;
    case LC_TYPE_INT32:
    case LC_TYPE_DATE32: value = *(const int32_t *)(const void *)item->values; break;
    case LC_TYPE_DECIMAL128:
    case LC_TYPE_DECIMAL256:
      return lc_literal_put(d, text, lc_decimal_text(item->values, item->width, item->decimal.scale, (uint8_t *)text));
    case LC_TYPE_UTF8:
      if (item->wire->encoding == LC_ENCODING_STRING || item->wire->encoding == LC_ENCODING_RAW_JSON)
        return lc_literal_quoted(d, item->data.data, item->data.size);
      return lc_literal_put(d, item->data.data, item->data.size);
    case LC_TYPE_BINARY: return lc_literal_bytes(d, item->data.data, item->data.size);
    default: value = *(const int64_t *)(const void *)item->values;
  }
  if (item->wire->type <= LC_TYPE_INT64)
    return lc_literal_put(d, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
  if (*p == '"') return put_given(d, item, p, after, true);
  return lc_literal_put(d, text, lc_iso_write(item->wire->type, item->wire->scale, value, text));
}

static const uint8_t *element(lc_decoder *d, lc_decode_column *item, const uint8_t *p) {
  if (*p == '[') return lc_fault(d, LC_ROW_ARRAY, p, item);
  if (*p == '"') {
    const uint8_t *text;
    size_t size;
    const uint8_t *q = lc_text_take(d, item, p, &text, &size);
    if (q == NULL || q > d->end) return NULL;
    if (lc_is_java_print(text, size)) return lc_fault(d, LC_ROW_ARRAY, p, item);
  }
  item->data.size = 0;
  const uint8_t *after = lc_value_decode(d, item, 0, p);
  if (after == NULL || after > d->end) return NULL;
  if (!item->good) return lc_literal_put(d, "NULL", 4) ? after : NULL;
  return put_cell(d, item, p, after) ? after : NULL;
}

/* The elements behind `[` into d->literal. */
static const uint8_t *elements(lc_decoder *d, lc_decode_column *item, const uint8_t *p) {
  bool good = lc_literal_put(d, "{", 1);
  p = lc_skip_space(p, d->end);
  if (p < d->end && *p == ']') return good && lc_literal_put(d, "}", 1) ? p + 1 : NULL;
  while (good && p < d->end) {
    const uint8_t *at = p;
    d->depth++;
    p = element(d, item, p);
    d->depth--;
    if (p == NULL) { /* a later element's fault stands behind this one */
      lc_json_fault ignored;
      if (!d->careful || d->failed || (p = lc_json_skip(at, d->end, 0, d->kernels, &ignored)) == NULL) return NULL;
    }
    p = lc_skip_space(p, d->end);
    if (p >= d->end) return NULL;
    if (*p == ']') return lc_literal_put(d, "}", 1) ? p + 1 : NULL;
    if (*p != ',') return NULL;
    p = lc_skip_space(p + 1, d->end);
    good = lc_literal_put(d, ",", 1);
  }
  return NULL;
}

bool lc_literal_unsent(const lc_decoder *d, const lc_wire_column *array) {
  size_t size = d->literal.size;
  return LC_UNLIKELY(size == (size_t)array->unsent_size) && memcmp(d->literal.data, array->unsent, size) == 0;
}

const uint8_t *lc_array_decode(lc_decoder *d, lc_decode_column *column, int64_t row, const uint8_t *p) {
  if (*p != '[') return lc_fault(d, LC_ROW_TYPE, p, column);
  size_t list = d->placeholder_list_size, one = d->placeholder_array_size, left = (size_t)(d->end - p);
  bool is_list = left >= list && memcmp(p, d->placeholder_list, list) == 0;
  if (is_list || (left >= one && memcmp(p, d->placeholder_array, one) == 0))
    return cell_unset(column, row, p + (is_list ? list : one));
  d->literal.size = 0;
  const uint8_t *after = elements(d, column->item, p + 1);
  if (after == NULL || d->failed) return NULL;
  if (lc_literal_unsent(d, column->wire)) return cell_unset(column, row, after);
  if (!lc_buffer_append(&column->data, d->literal.data, d->literal.size))
    return lc_decoder_fails(d, column->data.size + d->literal.size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
  return after;
}

/* An Avro array into a text cell: the PostgreSQL array literal {1,NULL,"a"} of one dimension. */
#include <math.h>
#include <stdio.h>

#include "avro_internal.h"
#include "envelope_values.h"
#include "time_text.h"

/* The element's cell (row 0 of `item`) as literal text. */
static bool put_cell(lc_avro *a, const lc_decode_column *item) {
  lc_decoder *d = &a->d;
  char text[96];
  int64_t value = 0;
  double number;
  float single;
  switch (item->wire->type) {
    case LC_TYPE_BOOL: return lc_literal_put(d, lc_bit_get(item->values, 0) ? "t" : "f", 1);
    case LC_TYPE_FLOAT32:
    case LC_TYPE_FLOAT64:
      memcpy(&number, item->values, 8);
      memcpy(&single, item->values, 4);
      if (item->width == 4) number = (double)single;
      if (isnan(number)) return lc_literal_put(d, "NaN", 3);
      if (isinf(number)) return number > 0 ? lc_literal_put(d, "Infinity", 8) : lc_literal_put(d, "-Infinity", 9);
      return lc_literal_put(d, text, lc_avro_double_text(number, item->width == 4, text));
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
  return lc_literal_put(d, text, lc_iso_write(item->wire->type, item->wire->scale, value, text));
}

static bool is_iso(int32_t encoding) {
  return encoding >= LC_ENCODING_ZONED_TIMESTAMP && encoding <= LC_ENCODING_ISO_TIMESTAMP;
}

/* One element behind what is in d->literal. */
static const uint8_t *element(lc_avro *a, lc_decode_column *item, const lc_avro_node *node, const uint8_t *p,
                              int depth) {
  lc_decoder *d = &a->d;
  const uint8_t *text = NULL;
  size_t size = 0;
  p = lc_avro_resolve(a, &node, p);
  if (p == NULL) return NULL;
  if (node->kind == LC_AVRO_STRING && lc_avro_bytes(a, node, p, &text, &size) == NULL) return NULL;
  if (node->kind == LC_AVRO_ARRAY || (text != NULL && lc_is_java_print(text, size))) {
    const uint8_t *after = lc_avro_skip(a, node, p, depth);
    if (after != NULL) lc_fault_note(d, LC_ROW_ARRAY, p, item);
    return after;
  }
  int32_t noted = d->fault;
  d->fault = 0; /* of an element with a fault there is no cell to write */
  const uint8_t *noted_at = d->fault_at;
  int32_t noted_column = d->fault_column;
  item->data.size = 0;
  const uint8_t *after = lc_avro_cell(a, item, 0, node, p, depth);
  bool good = d->fault == 0;
  if (noted != 0 && (good || noted_at <= d->fault_at)) {
    d->fault = noted;
    d->fault_at = noted_at;
    d->fault_column = noted_column;
  }
  if (after == NULL || !good) return after;
  if (!item->good) return lc_literal_put(d, "NULL", 4) ? after : NULL;
  bool put = is_iso(item->wire->encoding) ? lc_literal_quoted(d, text, size) : put_cell(a, item);
  return put ? after : NULL;
}

/* Whether the element at p is the integer `byte`. */
static bool is_byte(lc_avro *a, const lc_avro_node *node, const uint8_t *p, uint8_t byte) {
  int64_t value = -1;
  p = lc_avro_resolve(a, &node, p);
  bool number = p != NULL && (node->kind == LC_AVRO_INT || node->kind == LC_AVRO_LONG);
  return number && lc_avro_long(a, p, &value) != NULL && value == byte;
}

/* The blocks of the array at p as a literal in d->literal.  *unsent: it is how Debezium writes an array whose value was
 * not sent: the placeholder alone, or the list of its bytes. */
static const uint8_t *elements(lc_avro *a, lc_decode_column *items, const lc_avro_node *item, const uint8_t *p,
                               int depth, bool *unsent) {
  const lc_decoder *d = &a->d;
  int64_t done = 0, listed = 0, wanted = d->plan->placeholder_size;
  a->d.literal.size = 0;
  bool good = lc_literal_put(&a->d, "{", 1);
  for (int64_t count = 1; good && count > 0;) {
    p = lc_avro_block(a, p, &count);
    if (p == NULL) return NULL;
    for (int64_t i = 0; good && i < count; i++, done++) {
      if (listed == done && done < wanted) listed += is_byte(a, item, p, d->plan->placeholder[done]);
      good = done == 0 || lc_literal_put(&a->d, ",", 1);
      if (good) good = (p = element(a, items, item, p, depth)) != NULL;
    }
  }
  if (!good || !lc_literal_put(&a->d, "}", 1)) return NULL;
  size_t size = d->literal.size - 2;
  *unsent = (listed == wanted && done == wanted) ||
            (size == d->placeholder_array_size - 2 && memcmp(d->literal.data + 1, d->placeholder_array + 1, size) == 0);
  return p;
}

const uint8_t *lc_avro_array(lc_avro *a, lc_decode_column *column, int64_t row, const lc_avro_node *node,
                             const uint8_t *p, int depth) {
  lc_decoder *d = &a->d;
  const uint8_t *first = p, *noted_at = d->fault_at;
  int32_t noted = d->fault, noted_column = d->fault_column;
  bool unsent = false;
  if (node->kind != LC_AVRO_ARRAY) {
    p = lc_avro_skip(a, node, p, depth);
    if (p != NULL) lc_fault_note(d, LC_ROW_TYPE, first, column);
    return p;
  }
  if (depth >= LC_AVRO_DEPTH_MAX) return lc_avro_breaks(a, LC_ROW_DEPTH, p);
  p = elements(a, column->item, lc_avro_node_at(a, node->first), p, depth + 1, &unsent);
  if (p == NULL) return NULL;
  if (unsent || lc_literal_unsent(d, column->wire)) {
    d->fault = noted;
    d->fault_at = noted_at;
    d->fault_column = noted_column;
    return cell_unset(column, row, p);
  }
  if (!lc_buffer_append(&column->data, d->literal.data, d->literal.size))
    return lc_decoder_fails(d, column->data.size + d->literal.size > INT32_MAX ? LC_CAPACITY : LC_NO_MEMORY);
  ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
  return p;
}

/* Avro bytes without meaning: longs, blocks, skipping, and values as JSON text. */
#include <math.h>
#include <stdio.h>

#include "avro_internal.h"

const uint8_t *lc_avro_long_slow(lc_avro *a, const uint8_t *p, int64_t *value) {
  const uint8_t *first = p;
  uint64_t bits = 0;
  for (unsigned shift = 0; shift < 70; shift += 7, p++) {
    if (p >= a->d.end) return lc_avro_breaks(a, LC_ROW_SYNTAX, a->d.end);
    if (shift == 63 && *p > 1) break;
    bits |= (uint64_t)(*p & 0x7f) << shift;
    if (*p < 0x80) {
      *value = (int64_t)(bits >> 1) ^ -(int64_t)(bits & 1);
      return p + 1;
    }
  }
  return lc_avro_breaks(a, LC_ROW_SYNTAX, first);
}

const uint8_t *lc_avro_block(lc_avro *a, const uint8_t *p, int64_t *count) {
  const uint8_t *first = p;
  p = lc_avro_long(a, p, count);
  if (p == NULL) return NULL;
  if (*count < 0) { /* the block's size in bytes follows; the items say it again */
    int64_t size;
    if (*count == INT64_MIN) return lc_avro_breaks(a, LC_ROW_SYNTAX, first);
    *count = -*count;
    const uint8_t *size_at = p;
    p = lc_avro_long(a, p, &size);
    if (p == NULL) return NULL;
    if (size < 0 || size > a->d.end - p) return lc_avro_breaks(a, LC_ROW_SYNTAX, size_at);
  }
  /* items may have no bytes at all: the count itself is bounded, so that a few bytes cannot cost a day */
  return *count > a->d.end - p ? lc_avro_breaks(a, LC_ROW_SYNTAX, first) : p;
}

static const uint8_t *items_skip(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth) {
  static const lc_avro_node name = {.kind = LC_AVRO_STRING};
  const lc_avro_node *item = lc_avro_node_at(a, node->first);
  for (int64_t count;;) {
    p = lc_avro_block(a, p, &count);
    if (p == NULL || count == 0) return p;
    for (; count > 0 && p != NULL; count--) {
      if (node->kind == LC_AVRO_MAP) p = lc_avro_skip(a, &name, p, depth);
      if (p != NULL) p = lc_avro_skip(a, item, p, depth);
    }
    if (p == NULL) return NULL;
  }
}

const uint8_t *lc_avro_skip(lc_avro *a, const lc_avro_node *node, const uint8_t *p, int depth) {
  const uint8_t *text;
  size_t size;
  int64_t number = 0;
  p = lc_avro_resolve(a, &node, p);
  if (p == NULL) return NULL;
  switch (node->kind) {
    case LC_AVRO_NULL: return p;
    case LC_AVRO_BOOLEAN:
      if (p >= a->d.end || *p > 1) return lc_avro_breaks(a, LC_ROW_SYNTAX, p);
      return p + 1;
    case LC_AVRO_INT:
    case LC_AVRO_LONG: return lc_avro_number(a, node->kind, p, &number);
    case LC_AVRO_FLOAT: return a->d.end - p < 4 ? lc_avro_breaks(a, LC_ROW_SYNTAX, a->d.end) : p + 4;
    case LC_AVRO_DOUBLE: return a->d.end - p < 8 ? lc_avro_breaks(a, LC_ROW_SYNTAX, a->d.end) : p + 8;
    case LC_AVRO_BYTES:
    case LC_AVRO_STRING:
    case LC_AVRO_FIXED: return lc_avro_bytes(a, node, p, &text, &size);
    case LC_AVRO_ENUM: return lc_avro_index(a, node, p, &number);
    default: break;
  }
  if (depth >= LC_AVRO_DEPTH_MAX) return lc_avro_breaks(a, LC_ROW_DEPTH, p);
  if (node->kind != LC_AVRO_RECORD) return items_skip(a, node, p, depth + 1);
  for (int32_t f = 0; f < node->count && p != NULL; f++)
    p = lc_avro_skip(a, lc_avro_node_at(a, lc_avro_part_at(a, node, f)->node), p, depth + 1);
  return p;
}

bool lc_avro_utf8(lc_avro *a, const lc_decode_column *column, const uint8_t *text, size_t size) {
  const uint8_t *p = text, *end = text + size;
  while (end - p >= 8 && (lc_load64(p) & LC_HIGHS) == 0)
    p += 8;
  while (p < end && *p < 0x80)
    p++;
  if (LC_LIKELY(p == end)) return true;
  int64_t bad = a->d.kernels->utf8_fault(p, (size_t)(end - p));
  if (bad >= 0) lc_fault_note(&a->d, LC_ROW_UTF8, p + bad, column);
  return bad < 0;
}

/* The digits of the text at `precision` fraction digits, apart: "d.ddd" and the exponent. */
static int digits_of(double value, int precision, char digits[24], int *exponent) {
  char text[40];
  snprintf(text, sizeof text, "%.*e", precision, value);
  int count = 0;
  const char *p = text;
  for (; *p != 'e' && *p != '\0'; p++) /* the point may be any character of a locale */
    if (*p >= '0' && *p <= '9') digits[count++] = *p;
  *exponent = *p == 'e' ? (int)strtol(p + 1, NULL, 10) : 0;
  while (count > 1 && digits[count - 1] == '0')
    count--;
  return count;
}

static bool reads_back(double value, bool single, const char *digits, int count, int exponent) {
  uint8_t text[48];
  int size = snprintf((char *)text, sizeof text, "%.*se%d", count, digits, exponent - (count - 1));
  double back = lc_double_from_text(text, text + size);
  return single ? (float)back == (float)value : back == value;
}

size_t lc_avro_double_text(double value, bool single, char *out) {
  char digits[24], *at = out;
  int count = 0, exponent = 0;
  if (signbit(value)) *at++ = '-';
  value = fabs(value);
  for (int precision = 0; precision <= 16; precision++) {
    count = digits_of(value, precision, digits, &exponent);
    if (reads_back(value, single, digits, count, exponent)) break;
  }
  if (exponent < -4 || exponent >= 16) { /* d.ddde-05 */
    *at++ = digits[0];
    if (count > 1) *at++ = '.';
    memcpy(at, digits + 1, (size_t)(count - 1));
    at += count - 1;
    return (size_t)(at - out) + (size_t)snprintf(at, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
  }
  int whole = exponent + 1; /* digits before the point */
  if (whole <= 0) {
    *at++ = '0';
    *at++ = '.';
    for (int i = whole; i < 0; i++)
      *at++ = '0';
    memcpy(at, digits, (size_t)count);
    return (size_t)(at + count - out);
  }
  for (int i = 0; i < whole; i++)
    *at++ = i < count ? digits[i] : '0';
  *at++ = '.';
  if (count <= whole) *at++ = '0';
  for (int i = whole; i < count; i++)
    *at++ = digits[i];
  return (size_t)(at - out);
}

/* ---- JSON ---- */

static bool put(lc_avro *a, const void *text, size_t size) { return lc_literal_put(&a->d, text, size); }

static bool put_string(lc_avro *a, const uint8_t *text, size_t size) {
  static const char letters[] = "btn fr"; /* of \b \t \n, none, \f \r */
  bool good = put(a, "\"", 1);
  for (size_t i = 0, from = 0; good && i <= size; i++) {
    if (i < size && text[i] >= 0x20 && text[i] != '"' && text[i] != '\\') continue;
    good = i == from || put(a, text + from, i - from);
    from = i + 1;
    if (i == size) break;
    char escape[8] = {'\\', (char)text[i]};
    int length = 2;
    if (text[i] >= 8 && text[i] <= 13 && text[i] != 11)
      escape[1] = letters[text[i] - 8];
    else if (text[i] < 0x20)
      length = snprintf(escape, sizeof escape, "\\u%04x", text[i]);
    good = good && put(a, escape, (size_t)length);
  }
  return good && put(a, "\"", 1);
}

static bool put_base64(lc_avro *a, const uint8_t *bytes, size_t size) {
  static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  bool good = put(a, "\"", 1);
  for (size_t i = 0; good && i < size; i += 3) {
    uint32_t bits =
        (uint32_t)bytes[i] << 16 | (i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0) | (i + 2 < size ? bytes[i + 2] : 0);
    char four[4];
    for (int k = 0; k < 4; k++)
      four[k] = i + (size_t)k <= size ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    good = put(a, four, 4);
  }
  return good && put(a, "\"", 1);
}

static bool put_double(lc_avro *a, double value, bool single) {
  char text[40];
  if (isnan(value)) return put(a, "\"NaN\"", 5);
  if (isinf(value)) return value > 0 ? put(a, "\"Infinity\"", 10) : put(a, "\"-Infinity\"", 11);
  return put(a, text, lc_avro_double_text(value, single, text));
}

static const uint8_t *json_items(lc_avro *a, const lc_decode_column *column, const lc_avro_node *node, const uint8_t *p,
                                 int depth) {
  static const lc_avro_node name = {.kind = LC_AVRO_STRING};
  const lc_avro_node *item = lc_avro_node_at(a, node->first);
  bool map = node->kind == LC_AVRO_MAP, first = true, good = put(a, map ? "{" : "[", 1);
  for (int64_t count = 1; good;) {
    p = lc_avro_block(a, p, &count);
    if (p == NULL) return NULL;
    if (count == 0) return put(a, map ? "}" : "]", 1) ? p : NULL;
    for (; good && count > 0; count--) {
      good = first || put(a, ",", 1);
      first = false;
      if (good && map) good = (p = lc_avro_json(a, column, &name, p, depth)) != NULL && put(a, ":", 1);
      if (good) good = (p = lc_avro_json(a, column, item, p, depth)) != NULL;
    }
  }
  return NULL;
}

static const uint8_t *json_record(lc_avro *a, const lc_decode_column *column, const lc_avro_node *node,
                                  const uint8_t *p, int depth) {
  bool good = put(a, "{", 1);
  for (int32_t f = 0; good && f < node->count; f++) {
    const lc_avro_part *field = lc_avro_part_at(a, node, f);
    good = (f == 0 || put(a, ",", 1)) && put_string(a, (const uint8_t *)field->name, (size_t)field->name_size) &&
           put(a, ":", 1) && (p = lc_avro_json(a, column, lc_avro_node_at(a, field->node), p, depth)) != NULL;
  }
  return good && put(a, "}", 1) ? p : NULL;
}

/* The value of a boolean, a number or an enum. */
static const uint8_t *json_plain(lc_avro *a, const lc_avro_node *node, const uint8_t *p) {
  const uint8_t *after = lc_avro_skip(a, node, p, 0);
  char text[24];
  int64_t number = 0;
  if (after == NULL) return NULL;
  switch (node->kind) {
    case LC_AVRO_NULL: return put(a, "null", 4) ? after : NULL;
    case LC_AVRO_BOOLEAN: return (*p ? put(a, "true", 4) : put(a, "false", 5)) ? after : NULL;
    case LC_AVRO_FLOAT: return put_double(a, (double)lc_avro_float(p), true) ? after : NULL;
    case LC_AVRO_DOUBLE: return put_double(a, lc_avro_double(p), false) ? after : NULL;
    case LC_AVRO_ENUM: {
      lc_avro_index(a, node, p, &number);
      const lc_avro_part *symbol = lc_avro_part_at(a, node, number);
      return put_string(a, (const uint8_t *)symbol->name, (size_t)symbol->name_size) ? after : NULL;
    }
    default:
      lc_avro_long(a, p, &number);
      return put(a, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)number)) ? after : NULL;
  }
}

const uint8_t *lc_avro_json(lc_avro *a, const lc_decode_column *column, const lc_avro_node *node, const uint8_t *p,
                            int depth) {
  const uint8_t *text;
  size_t size;
  p = lc_avro_resolve(a, &node, p);
  if (p == NULL) return NULL;
  switch (node->kind) {
    case LC_AVRO_BYTES:
    case LC_AVRO_FIXED:
      p = lc_avro_bytes(a, node, p, &text, &size);
      return p != NULL && put_base64(a, text, size) ? p : NULL;
    case LC_AVRO_STRING:
      p = lc_avro_bytes(a, node, p, &text, &size);
      if (p != NULL) lc_avro_utf8(a, column, text, size);
      return p != NULL && put_string(a, text, size) ? p : NULL;
    case LC_AVRO_ARRAY:
    case LC_AVRO_MAP:
    case LC_AVRO_RECORD:
      if (depth >= LC_AVRO_DEPTH_MAX) return lc_avro_breaks(a, LC_ROW_DEPTH, p);
      return node->kind == LC_AVRO_RECORD ? json_record(a, column, node, p, depth + 1)
                                          : json_items(a, column, node, p, depth + 1);
    default: return json_plain(a, node, p);
  }
}

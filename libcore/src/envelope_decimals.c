/* Decimals and unbounded numerics of a message into cells: as text, as base64 integers, as {"scale", "value"}. */
#include "envelope_values.h"

/* A decimal of at most 18 digits, point and sign included, as it nearly always is; false: take the long way. */
static inline bool decimal_short(const column_t *column, const uint8_t *p, const uint8_t *end, uint8_t *out) {
  bool negative = *p == '-';
  if (negative) p++;
  uint64_t whole, fraction = 0;
  unsigned whole_count, fraction_count = 0;
  p = lc_digits(p, &whole, &whole_count);
  if (*p == '.') p = lc_digits(p + 1, &fraction, &fraction_count);
  unsigned scale = (unsigned)column->decimal.scale;
  if (p != end || whole_count == 0 || fraction_count > scale || scale > 18 || whole_count + scale > 18) return false;
  uint64_t magnitude = whole * lc_pow10(scale) + fraction * lc_pow10(scale - fraction_count);
  if (column->decimal.precision < 19 && magnitude >= lc_pow10((unsigned)column->decimal.precision)) return false;
  uint64_t low = negative ? 0 - magnitude : magnitude, high = negative && magnitude != 0 ? UINT64_MAX : 0;
  memcpy(out, &low, 8); /* by words: 16 bytes put together on the stack would be read back before they are there */
  memcpy(out + 8, &high, 8);
  return true;
}

/* Turn a code of number.h into the answer of a decoder. */
static const uint8_t *numbered(lc_decoder *d, column_t *column, int64_t row, int code, const uint8_t *p,
                               const uint8_t *after) {
  if (code < 0) return lc_decoder_fails(d, LC_NO_MEMORY);
  if (code > 0) return lc_fault(d, code, p, column);
  if (column->variable) ((int32_t *)(void *)column->values)[row + 1] = (int32_t)column->data.size;
  return after;
}

const uint8_t *lc_decimal_text_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  const uint8_t *text = p, *after;
  size_t size;
  uint8_t *out = column->values + row * column->width;
  if (LC_LIKELY(*p == '"')) {
    after = lc_text_take(d, column, p, &text, &size);
    if (after == NULL || after > d->end) return NULL;
    if (is_placeholder(d, column, text, size)) return cell_unset(column, row, after);
  } else {
    after = *p == '-' || lc_is_digit(*p) ? lc_number_skip(d, p) : NULL;
    if (after == NULL || after > d->end) return type_fault(d, column, p);
    size = (size_t)(after - p);
  }
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  /* text in d->text (unescaped) has no padding behind it */
  if (LC_LIKELY(column->width == 16 && text != d->text.data && decimal_short(column, text, text + size, out)))
    return after;
#endif
  return numbered(d, column, row, lc_decimal_from_text(text, text + size, &column->decimal, out), p, after);
}

const uint8_t *lc_numeric_text_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  const uint8_t *text = p, *after;
  size_t size;
  if (*p == '"') {
    after = lc_text_take(d, column, p, &text, &size);
    if (after == NULL || after > d->end) return NULL;
    if (is_placeholder(d, column, text, size)) return cell_unset(column, row, after);
  } else {
    after = *p == '-' || lc_is_digit(*p) ? lc_number_skip(d, p) : NULL;
    if (after == NULL || after > d->end) return type_fault(d, column, p);
    size = (size_t)(after - p);
  }
  return numbered(d, column, row, lc_numeric_from_text(text, text + size, &column->data), p, after);
}

const uint8_t *lc_decimal_base64_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  if (*p != '"') return lc_decimal_text_decode(d, column, row, p); /* the converter's decimal.format=NUMERIC */
  bool placeholder;
  const uint8_t *after = lc_bytes_take(d, column, p, &placeholder);
  if (after == NULL) return NULL;
  uint8_t *out = column->values + row * column->width;
  return numbered(d, column, row,
                  lc_decimal_from_bytes(d->bytes.data, d->bytes.size, column->wire->wire_scale, &column->decimal, out),
                  p, after);
}

/* {"scale": int, "value": base64} at p: the scale, and the bytes in d->bytes. */
static const uint8_t *struct_take(lc_decoder *d, column_t *column, const uint8_t *p, int32_t *scale) {
  if (*p != '{') return type_fault(d, column, p);
  lc_json_fault fault;
  const uint8_t *after = lc_json_skip(p, d->end, d->depth, d->kernels, &fault), *value_at = NULL;
  if (after == NULL) return NULL;
  bool scale_seen = false;
  for (const uint8_t *q = lc_skip_space(p + 1, d->end); *q != '}';) {
    const uint8_t *name, *at, *surrogate;
    size_t size;
    q = lc_text_read(d, q, &name, &size, &surrogate);
    if (q == NULL) return NULL;
    if (surrogate != NULL) size = 0; /* such a name is neither of the two */
    bool is_scale = is_bytes(name, size, (const uint8_t *)"scale", 5),
         is_value = is_bytes(name, size, (const uint8_t *)"value", 5);
    q = at = lc_skip_space(lc_skip_space(q, d->end) + 1, d->end);
    if (is_scale) {
      int64_t number = 0;
      if (!lc_is_digit(*q) && *q != '-') return type_fault(d, column, p);
      int32_t kept = d->fault;
      const uint8_t *kept_at = d->fault_at;
      if (int_take(d, column, q, &number) == NULL) { /* its own fault is the struct's */
        int32_t code = d->fault_at == q ? d->fault : LC_ROW_TYPE;
        d->fault = kept;
        d->fault_at = kept_at;
        return lc_fault(d, code, p, column);
      }
      if (number != (int32_t)number) return lc_fault(d, LC_ROW_RANGE, p, column);
      *scale = (int32_t)number;
      scale_seen = true;
    }
    if (is_value) value_at = at;
    q = lc_skip_space(lc_json_skip(at, d->end, 0, d->kernels, &fault), d->end);
    if (*q == ',') q = lc_skip_space(q + 1, d->end);
  }
  if (!scale_seen || value_at == NULL || *value_at != '"') return type_fault(d, column, p);
  const uint8_t *text;
  size_t size;
  if (lc_text_take(d, column, value_at, &text, &size) == NULL) return NULL;
  d->bytes.size = 0;
  if (d->bytes.capacity < size && !lc_buffer_reserve(&d->bytes, size)) return lc_decoder_fails(d, LC_NO_MEMORY);
  int64_t decoded = lc_base64_decode(text, size, d->bytes.data);
  if (decoded < 0) return lc_fault(d, LC_ROW_BASE64, p, column);
  d->bytes.size = (size_t)decoded;
  return after;
}

const uint8_t *lc_numeric_struct_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  int32_t scale = 0;
  const uint8_t *after = struct_take(d, column, p, &scale);
  if (after == NULL) return NULL;
  return numbered(d, column, row, lc_numeric_from_bytes(d->bytes.data, d->bytes.size, scale, &column->data), p, after);
}

const uint8_t *lc_decimal_struct_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p) {
  int32_t scale = 0;
  const uint8_t *after = struct_take(d, column, p, &scale);
  if (after == NULL) return NULL;
  uint8_t *out = column->values + row * column->width;
  return numbered(d, column, row, lc_decimal_from_bytes(d->bytes.data, d->bytes.size, scale, &column->decimal, out), p,
                  after);
}

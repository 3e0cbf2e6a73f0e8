/* What the decoders of single values share: faults, placeholders, integers, and the list of decoders of other files. */
#ifndef LIBCORE_ENVELOPE_VALUES_H
#define LIBCORE_ENVELOPE_VALUES_H

#include "envelope_internal.h"

typedef struct lc_decode_column column_t;

static inline const uint8_t *type_fault(lc_decoder *d, column_t *column, const uint8_t *p) {
  return lc_fault(d, LC_ROW_TYPE, p, column);
}

static inline const uint8_t *cell_unset(column_t *column, int64_t row, const uint8_t *after) {
  column->unset = true;
  column->good = false;
  lc_cell_null(column, row);
  return after;
}

static inline bool is_bytes(const uint8_t *text, size_t size, const uint8_t *other, size_t other_size) {
  return size == other_size && memcmp(text, other, size) == 0;
}

static inline bool is_placeholder(const lc_decoder *d, const column_t *column, const uint8_t *text, size_t size) {
  return !column->element && LC_UNLIKELY(size == (size_t)d->plan->placeholder_size) &&
         memcmp(text, d->plan->placeholder, size) == 0;
}

/* A JSON integer literal that fits int64: the byte behind it, or NULL with TYPE or RANGE. */
static inline const uint8_t *int_take(lc_decoder *d, column_t *column, const uint8_t *p, int64_t *value) {
  const uint8_t *first = p;
  bool negative = *p == '-';
  if (negative) p++;
  const uint8_t *digits = p;
  uint64_t magnitude;
  unsigned count;
  p = lc_digits(p, &magnitude, &count);
  if (LC_UNLIKELY(count == 0 || (*digits == '0' && count > 1))) return type_fault(d, column, first);
  while (LC_UNLIKELY(lc_is_digit(*p)) && p < d->end)
    p++;
  if (LC_UNLIKELY(*p == '.' || (*p | 0x20) == 'e')) return type_fault(d, column, first);
  if (LC_UNLIKELY(p - digits > 19 || magnitude > (uint64_t)INT64_MAX + negative))
    return lc_fault(d, LC_ROW_RANGE, first, column);
  *value = (int64_t)(negative ? 0 - magnitude : magnitude);
  return p;
}

/* The bytes of a base64 string at p in d->bytes; the byte behind it, or NULL with a fault. */
const uint8_t *lc_bytes_take(lc_decoder *d, column_t *column, const uint8_t *p, bool *placeholder);

/* envelope_decimals.c */
const uint8_t *lc_decimal_text_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p);
const uint8_t *lc_decimal_base64_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p);
const uint8_t *lc_decimal_struct_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p);
const uint8_t *lc_numeric_text_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p);
const uint8_t *lc_numeric_struct_decode(lc_decoder *d, column_t *column, int64_t row, const uint8_t *p);

#endif

/* The binary form of a PostgreSQL value into a cell: what its send function writes, of the types that have one form. */
#include <math.h>
#include <stdio.h>

#include "pgoutput_internal.h"

static int int_binary(lc_pg_builder_column *c, int64_t row, int32_t kind, const uint8_t *p, int32_t size) {
  if (kind == LC_PGOUTPUT_OID) return size == 4 ? lc_pg_put_int(c, row, lc_be32(p)) : LC_ROW_TYPE;
  if (size == 2) return lc_pg_put_int(c, row, (int16_t)lc_be16(p));
  if (size == 4) return lc_pg_put_int(c, row, (int32_t)lc_be32(p));
  return size == 8 ? lc_pg_put_int(c, row, (int64_t)lc_be64(p)) : LC_ROW_TYPE;
}

static int float_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (size == 4) {
    uint32_t bits = lc_be32(p);
    float single;
    memcpy(&single, &bits, 4);
    return lc_pg_put_float(c, row, isnan(single) ? NAN : single);
  }
  if (size != 8) return LC_ROW_TYPE;
  uint64_t bits = lc_be64(p);
  double value;
  memcpy(&value, &bits, 8);
  return lc_pg_put_float(c, row, isnan(value) ? NAN : value);
}

static int date_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (size != 4) return LC_ROW_TYPE;
  int64_t days = (int32_t)lc_be32(p);
  if (days != INT32_MAX && days != INT32_MIN) {
    days += LC_PG_EPOCH_DAYS;
    if (days >= INT32_MAX) return LC_ROW_RANGE;
  }
  lc_pg_store32(c, row, (int32_t)days);
  return 0;
}

static int time_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (size != 8) return LC_ROW_TYPE;
  int64_t us = (int64_t)lc_be64(p);
  if (us < 0 || us > LC_PG_DAY_US) return LC_ROW_RANGE;
  lc_pg_store64(c, row, us);
  return 0;
}

static int stamp_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (size != 8) return LC_ROW_TYPE;
  int64_t us = (int64_t)lc_be64(p);
  if (us != INT64_MAX && us != INT64_MIN) {
    if (us >= INT64_MAX - LC_PG_EPOCH_US) return LC_ROW_RANGE;
    us += LC_PG_EPOCH_US;
  }
  lc_pg_store64(c, row, us);
  return 0;
}

/* Digits in base 10000 to text: sign, whole part, `scale` fraction digits; so the text's rules hold for both forms. */
static int numeric_binary(lc_pg_decoder *d, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (size < 8) return LC_ROW_TYPE;
  int count = lc_be16(p), weight = (int16_t)lc_be16(p + 2), scale = lc_be16(p + 6);
  uint16_t form = lc_be16(p + 4);
  if (size != 8 + 2 * count || scale > 0x3FFF) return LC_ROW_TYPE;
  const char *word = form == 0xC000 ? "NaN" : form == 0xD000 ? "Infinity" : form == 0xF000 ? "-Infinity" : NULL;
  if (word != NULL && count == 0)
    return lc_pg_put_numeric(c, row, (const uint8_t *)word, (const uint8_t *)word + strlen(word));
  if (form != 0 && form != 0x4000) return LC_ROW_TYPE;
  int groups = weight < 0 ? 1 : weight + 1, tail = (scale + 3) / 4; /* in front of the point, and behind it */
  for (int i = 0; i < count; i++)
    if (lc_be16(p + 8 + 2 * i) > 9999) return LC_ROW_TYPE;
  for (int i = weight + 1 + tail < 0 ? 0 : weight + 1 + tail; i < count; i++)
    if (lc_be16(p + 8 + 2 * i) != 0) return LC_ROW_TYPE; /* digits behind the display scale */
  d->scratch.size = 0;
  if (!lc_buffer_reserve(&d->scratch, 8 + 4 * (size_t)(groups + tail))) return LC_PG_NO_MEMORY;
  uint8_t *out = d->scratch.data;
  if (form == 0x4000) *out++ = '-';
  for (int place = groups - 1; place >= -tail; place--) { /* the group's power of 10000 */
    if (place == -1) *out++ = '.';
    int i = weight - place;
    unsigned group = i >= 0 && i < count ? lc_be16(p + 8 + 2 * i) : 0;
    *out++ = (uint8_t)('0' + group / 1000);
    *out++ = (uint8_t)('0' + group / 100 % 10);
    *out++ = (uint8_t)('0' + group / 10 % 10);
    *out++ = (uint8_t)('0' + group % 10);
  }
  for (int beyond = tail * 4 - scale; beyond > 0; beyond--)
    if (*--out != '0') return LC_ROW_TYPE;
  return lc_pg_put_numeric(c, row, d->scratch.data, out);
}

static int bits_binary(lc_pg_decoder *d, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  if (size < 4) return LC_ROW_TYPE;
  uint32_t count = lc_be32(p);
  if (count > INT32_MAX - 7 || (int64_t)(count + 7) / 8 != size - 4) return LC_ROW_TYPE;
  d->scratch.size = 0;
  if (!lc_buffer_reserve(&d->scratch, count)) return LC_PG_NO_MEMORY;
  for (uint32_t i = 0; i < count; i++)
    d->scratch.data[i] = (uint8_t)('0' + (p[4 + i / 8] >> (7 - i % 8) & 1));
  return lc_pg_put_text(c, row, d->scratch.data, count);
}

static int uuid_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  static const char digits[] = "0123456789abcdef";
  char text[36], *out = text;
  if (size != 16) return LC_ROW_TYPE;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
    *out++ = digits[p[i] >> 4];
    *out++ = digits[p[i] & 15];
  }
  return lc_pg_put_text(c, row, text, 36);
}

static int interval_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  char text[96];
  if (size != 16) return LC_ROW_TYPE;
  size_t written =
      lc_pg_interval_write((int64_t)lc_be64(p), (int32_t)lc_be32(p + 8), (int32_t)lc_be32(p + 12), text);
  return lc_pg_put_text(c, row, text, written);
}

static int timetz_binary(lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  char text[40];
  if (size != 12) return LC_ROW_TYPE;
  int64_t us = (int64_t)lc_be64(p);
  int32_t west_s = (int32_t)lc_be32(p + 8);
  if (us < 0 || us > LC_PG_DAY_US || west_s <= -86400 || west_s >= 86400) return LC_ROW_RANGE;
  return lc_pg_put_text(c, row, text, lc_pg_timetz_write(us, west_s, text));
}

int lc_pg_binary(lc_pg_decoder *d, int32_t kind, lc_pg_builder_column *c, int64_t row, const uint8_t *p, int32_t size) {
  switch (kind) {
    case LC_PGOUTPUT_BOOL:
      if (size != 1 || *p > 1) return LC_ROW_TYPE;
      if (*p)
        lc_bit_set(c->values, row);
      else
        lc_bit_clear(c->values, row);
      return 0;
    case LC_PGOUTPUT_INT:
    case LC_PGOUTPUT_OID: return int_binary(c, row, kind, p, size);
    case LC_PGOUTPUT_FLOAT: return float_binary(c, row, p, size);
    case LC_PGOUTPUT_TEXT: return lc_pg_put_utf8(d, c, row, p, size);
    case LC_PGOUTPUT_JSONB: return size > 0 && *p == 1 ? lc_pg_put_utf8(d, c, row, p + 1, size - 1) : LC_ROW_TYPE;
    case LC_PGOUTPUT_NUMERIC: return numeric_binary(d, c, row, p, size);
    case LC_PGOUTPUT_BYTEA: return lc_pg_put_text(c, row, p, (size_t)size);
    case LC_PGOUTPUT_DATE: return date_binary(c, row, p, size);
    case LC_PGOUTPUT_TIME: return time_binary(c, row, p, size);
    case LC_PGOUTPUT_TIMESTAMP:
    case LC_PGOUTPUT_TIMESTAMPTZ: return stamp_binary(c, row, p, size);
    case LC_PGOUTPUT_UUID: return uuid_binary(c, row, p, size);
    case LC_PGOUTPUT_INTERVAL: return interval_binary(c, row, p, size);
    case LC_PGOUTPUT_TIMETZ: return timetz_binary(c, row, p, size);
    case LC_PGOUTPUT_BITS: return bits_binary(d, c, row, p, size);
    default: return LC_ROW_TYPE;
  }
}

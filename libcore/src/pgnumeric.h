/* Numbers as PostgreSQL's numeric_recv reads them: digit count, weight, sign, display scale, base 10000 digits. */
#ifndef LIBCORE_PGNUMERIC_H
#define LIBCORE_PGNUMERIC_H

#include "common.h"

static inline uint8_t *lc_put_u16(uint8_t *at, uint16_t value) {
  at[0] = (uint8_t)(value >> 8);
  at[1] = (uint8_t)value;
  return at + 2;
}
static inline uint8_t *lc_put_u32(uint8_t *at, uint32_t value) {
  value = __builtin_bswap32(value);
  memcpy(at, &value, sizeof value);
  return at + 4;
}
static inline uint8_t *lc_put_u64(uint8_t *at, uint64_t value) {
  value = __builtin_bswap64(value);
  memcpy(at, &value, sizeof value);
  return at + 8;
}

/* The largest field that lc_put_decimal writes, length word included.  Counted from the width and not the precision, so
 * that a value beyond its precision cannot leave the buffer: 2^127 * 1000 has 42 digits, 2^255 * 1000 has 80. */
#define LC_PG_DECIMAL_BYTES(width) (4 + 8 + 2 * ((width) == 16 ? 11 : 20))
/* The same for a text of `size` bytes: each part can begin or end inside a group of four. */
#define LC_PG_NUMERIC_BYTES(size) (4 + 8 + 2 * ((size) / 4 + 2))

/* Write a decimal of `width` bytes with its length word; the byte behind it. */
uint8_t *lc_put_decimal(uint8_t *at, const uint8_t *value, int32_t width, int32_t scale);

/* The same for a text; NULL and *reason (an lc_pg_reason) where it is no number or too large for PostgreSQL. */
uint8_t *lc_put_numeric(uint8_t *at, const uint8_t *text, int64_t size, int32_t *reason);

#endif

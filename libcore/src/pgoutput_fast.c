/* A new tuple to a row in one pass: the values of everyday types where their text has its usual form, others by the
 * functions of one value.  What surprises is left to pgoutput_changes.c, which reads the message again. */
#include "group.h"
#include "pgoutput_internal.h"

enum { BLOCK_BYTES = 32 }; /* a text of up to so many bytes is copied as a block: LC_PG_PADDING lets it be read */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
static inline uint32_t size_at(const uint8_t *p) {
  uint32_t word;
  memcpy(&word, p, 4);
  return __builtin_bswap32(word);
}

/* Whether the first `size` (1..8) bytes are digits; their value. */
static inline bool digits8(const uint8_t *p, unsigned size, uint64_t *value) {
  uint64_t word = lc_load64(p);
  *value = lc_digits_value(word, size);
  return lc_digit_count(word) >= size;
}

/* [-]digits of up to 16 digits.  false: take the long way. */
static inline bool int_fast(const uint8_t *p, uint32_t size, int64_t *value) {
  uint64_t low, high = 0;
  bool negative = *p == '-';
  p += negative;
  size -= negative;
  if (LC_UNLIKELY(size - 1 > 15)) return false;
  if (size <= 8) {
    if (!digits8(p, size, &low)) return false;
  } else if (!digits8(p, size - 8, &high) || !digits8(p + size - 8, 8, &low)) {
    return false;
  }
  low += high * 100000000u;
  *value = negative ? -(int64_t)low : (int64_t)low;
  return true;
}

/* [-]digits[.digits] with at most 8 digits on each side into 16 bytes.  false: take the long way. */
static inline bool decimal_fast(const lc_decimal_target *target, const uint8_t *p, uint32_t size, uint8_t *out) {
  uint64_t whole, fraction = 0;
  bool negative = *p == '-';
  p += negative;
  size -= negative;
  if (LC_UNLIKELY(size == 0 || size > 17 || target->width != 16 || target->scale > 10)) return false;
  unsigned before = lc_digit_count(lc_load64(p)), behind = 0;
  if (before >= size) {
    before = size;
  } else {
    behind = size - before - 1;
    if (p[before] != '.' || behind - 1 > 7 || behind > (unsigned)target->scale) return false;
    if (!digits8(p + before + 1, behind, &fraction)) return false;
  }
  if (before == 0) return false;
  digits8(p, before, &whole);
  unsigned scale = (unsigned)target->scale;
  uint64_t magnitude = whole * lc_pow10(scale) + fraction * lc_pow10(scale - behind);
  if (target->precision < 18 && magnitude >= lc_pow10((unsigned)target->precision)) return false;
  uint64_t low = negative ? 0 - magnitude : magnitude, high = negative && magnitude != 0 ? UINT64_MAX : 0;
  memcpy(out, &low, 8); /* by words: 16 bytes put together on the stack would be read back before they are there */
  memcpy(out + 8, &high, 8);
  return true;
}

static inline unsigned two(const uint8_t *p) { return (p[0] - '0') * 10u + (p[1] - '0'); }

static inline bool is_stamp_form(const uint8_t *p) {
#ifdef LC_SSE2
  unsigned digits = 0xdb6f; /* 2026-01-02 03:04, bit 0 the first */
  __m128i values = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi8('0'));
  __m128i are = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
  bool good = (unsigned)_mm_movemask_epi8(are) == digits && lc_is_digit(p[17]) && lc_is_digit(p[18]);
#else
  static const uint8_t places[] = {0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18};
  bool good = true;
  for (size_t i = 0; i < sizeof places; i++)
    good = good && lc_is_digit(p[places[i]]);
#endif
  return good && p[4] == '-' && p[7] == '-' && p[10] == ' ' && p[13] == ':' && p[16] == ':';
}

/* YYYY-MM-DD HH:MM:SS[.ffffff] of the years 1 to 9999.  false: take the long way. */
static inline bool stamp_fast(const uint8_t *p, uint32_t size, int64_t *value) {
  static const uint8_t lengths[16] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (LC_UNLIKELY(size - 19 > 7 || !is_stamp_form(p))) return false;
  uint64_t fraction = 0;
  if (size > 19) {
    unsigned digits = size - 20;
    if (digits == 0 || p[19] != '.' || !digits8(p + 20, digits, &fraction)) return false;
    fraction *= lc_pow10(6 - digits);
  }
  unsigned year = two(p) * 100 + two(p + 2), month = two(p + 5), day = two(p + 8);
  unsigned hour = two(p + 11), minute = two(p + 14), second = two(p + 17);
  bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
  if (year == 0 || month - 1 > 11 || day - 1 >= (unsigned)lengths[month] + (month == 2 && leap)) return false;
  if (hour > 23 || minute > 59 || second > 59) return false;
  year -= month <= 2; /* as lc_civil_days, for years from 0 on */
  unsigned of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  int64_t days = (int64_t)(year * 365 + year / 4 - year / 100 + year / 400 + of_year) - 719468;
  *value = days * LC_PG_DAY_US + (int64_t)((hour * 3600 + minute * 60 + second) * 1000000ull + fraction);
  return true;
}

static inline bool is_ascii(const uint8_t *p, uint32_t size) { /* size <= BLOCK_BYTES */
#ifdef LC_SSE2
  unsigned low = (unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)p));
  unsigned high = (unsigned)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16)));
  return ((low | (uint64_t)high << 16) & ((1ull << size) - 1)) == 0;
#else
  uint8_t seen = 0;
  for (uint32_t i = 0; i < size; i++)
    seen |= p[i];
  return seen < 0x80;
#endif
}

static inline bool text_fast(lc_pg_builder_column *c, int64_t row, const uint8_t *p, uint32_t size) {
  lc_buffer *data = &c->data;
  if (LC_UNLIKELY(size > BLOCK_BYTES || data->capacity - data->size < BLOCK_BYTES || !is_ascii(p, size))) return false;
  memcpy(data->data + data->size, p, BLOCK_BYTES); /* what is too much lies in the next text's room */
  data->size += size;
  ((int32_t *)(void *)c->values)[row + 1] = (int32_t)data->size;
  return true;
}

/* A text of its usual form into its cell; false: not done. */
static inline bool text_value(int32_t kind, lc_pg_builder_column *c, int64_t row, const uint8_t *p, uint32_t size) {
  int64_t value;
  switch (kind) {
    case LC_PGOUTPUT_INT:
      if (!int_fast(p, size, &value)) return false;
      if (c->width == 8) return lc_pg_store64(c, row, value), true;
      if (c->width != 4 || value != (int32_t)value) return false;
      lc_pg_store32(c, row, (int32_t)value);
      return true;
    case LC_PGOUTPUT_NUMERIC: return !c->variable && decimal_fast(&c->decimal, p, size, c->values + row * c->width);
    case LC_PGOUTPUT_TIMESTAMP:
      if (!stamp_fast(p, size, &value)) return false;
      lc_pg_store64(c, row, value);
      return true;
    case LC_PGOUTPUT_TEXT: return text_fast(c, row, p, size);
    default: return false;
  }
}
#else
static inline uint32_t size_at(const uint8_t *p) { return lc_be32(p); }
static inline bool text_value(int32_t kind, lc_pg_builder_column *c, int64_t row, const uint8_t *p, uint32_t size) {
  return false;
}
#endif

/* A cell without a value; false where a key has none, or nothing says what the value is. */
static inline bool no_value(lc_pg_decoder *d, lc_pg_builder *b, int64_t row, int32_t at, uint8_t form) {
  if (b->columns[at].column->is_key) return false;
  if (form == 'u' && (b->key_count == 0 || !lc_pg_mark_unset(d, b, row, at))) return false;
  lc_pg_cell_null(&b->columns[at], row);
  return true;
}

lc_pg_fast lc_pg_row_fast(lc_pg_decoder *d, lc_pg_builder *b, const uint8_t *p) {
  const lc_pgoutput_relation *r = b->relation;
  const uint8_t *end = d->end;
  int64_t row = b->rows;
  if (end - p < 2 || lc_be16(p) != r->wire_count) return LC_PG_SURPRISED;
  p += 2;
  for (const lc_pgoutput_wire *w = r->wire, *last = w + r->wire_count; w < last; w++) {
    if (LC_UNLIKELY(p >= end)) return LC_PG_SURPRISED;
    uint8_t form = *p++;
    if (form == 't' || form == 'b') {
      uint32_t size = size_at(p); /* inside the padding, whatever the message's end */
      p += 4;
      if (LC_UNLIKELY((int64_t)size > end - p)) return LC_PG_SURPRISED;
      const uint8_t *value = p;
      p += size;
      if (w->column < 0) continue;
      lc_pg_builder_column *c = &b->columns[w->column];
      if (LC_LIKELY(form == 't') && LC_LIKELY(text_value(w->kind, c, row, value, size))) continue;
      int code = form == 't' ? lc_pg_text(d, w->kind, c, row, value, (int32_t)size)
                             : lc_pg_binary(d, w->kind, c, row, value, (int32_t)size);
      if (LC_LIKELY(code == 0)) continue;
      if (code > 0) return LC_PG_SURPRISED;
      d->failed = code == LC_PG_CAPACITY ? LC_CAPACITY : LC_NO_MEMORY;
      return LC_PG_FAILED;
    }
    if (form != 'n' && form != 'u') return LC_PG_SURPRISED;
    if (w->column >= 0 && !no_value(d, b, row, w->column, form)) return d->failed ? LC_PG_FAILED : LC_PG_SURPRISED;
  }
  return p == end ? LC_PG_DONE : LC_PG_SURPRISED;
}

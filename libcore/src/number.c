/* Decimals and canonical numeric text: exact, with the reason where a value does not fit. */
#include "number.h"

#include "libcore/json.h"
#include "scan.h"

typedef unsigned __int128 u128;

bool lc_u256_mul_add(lc_u256 *value, uint64_t factor, uint64_t addend) {
  u128 carry = addend;
  for (int i = 0; i < 4; i++) {
    carry += (u128)value->words[i] * factor;
    value->words[i] = (uint64_t)carry;
    carry >>= 64;
  }
  return carry == 0;
}

uint64_t lc_u256_divide(lc_u256 *value, uint64_t divisor) {
  u128 rest = 0;
  for (int i = 3; i >= 0; i--) {
    rest = rest << 64 | value->words[i];
    value->words[i] = (uint64_t)(rest / divisor);
    rest %= divisor;
  }
  return (uint64_t)rest;
}

int lc_u256_compare(const lc_u256 *a, const lc_u256 *b) {
  for (int i = 3; i >= 0; i--)
    if (a->words[i] != b->words[i]) return a->words[i] < b->words[i] ? -1 : 1;
  return 0;
}

static bool is_zero(const lc_u256 *value) {
  return (value->words[0] | value->words[1] | value->words[2] | value->words[3]) == 0;
}

static bool scale_up(lc_u256 *value, int64_t exponent) {
  if (is_zero(value)) return true;
  if (exponent > 77) return false;
  for (; exponent > 0; exponent -= 19)
    if (!lc_u256_mul_add(value, lc_pow10(exponent > 19 ? 19 : (unsigned)exponent), 0)) return false;
  return true;
}

static bool scale_down(lc_u256 *value, int64_t exponent) { /* false: not exact */
  for (; exponent > 0 && !is_zero(value); exponent -= 19)
    if (lc_u256_divide(value, lc_pow10(exponent > 19 ? 19 : (unsigned)exponent)) != 0) return false;
  return true;
}

lc_decimal_target lc_decimal_target_make(int32_t precision, int32_t scale, bool wide) {
  lc_decimal_target target = {precision, scale, wide ? 32 : 16, {{1, 0, 0, 0}}};
  scale_up(&target.limit, precision); /* 10^76 < 2^256 */
  return target;
}

void lc_decimal_store(const lc_u256 *magnitude, bool negative, int32_t width, uint8_t *out) {
  uint64_t carry = negative;
  for (int i = 0; i < width / 8; i++) {
    uint64_t word = negative ? ~magnitude->words[i] + carry : magnitude->words[i];
    carry = carry && word == 0;
    for (int b = 0; b < 8; b++)
      out[i * 8 + b] = (uint8_t)(word >> (8 * b));
  }
}

/* A number's text taken apart; pointers into the text. */
typedef struct parts {
  bool negative;
  enum { FINITE, NAN_WORD, INFINITY_WORD } kind;
  const uint8_t *whole, *whole_end, *fraction, *fraction_end;
  int64_t exponent; /* clamped to +-10^12 */
} parts;

static bool is_text(const uint8_t *p, const uint8_t *end, const char *text) {
  return (size_t)(end - p) == strlen(text) && memcmp(p, text, (size_t)(end - p)) == 0;
}

static bool take_apart(const uint8_t *p, const uint8_t *end, parts *out) {
  *out = (parts){.kind = FINITE};
  if (p < end && *p >= 'A') { /* a word; the last two are those of Debezium's string mode */
    bool down = is_text(p, end, "NEGATIVE_INFINITY");
    out->kind = is_text(p, end, "NaN") || is_text(p, end, "NAN") ? NAN_WORD : INFINITY_WORD;
    out->negative = down;
    return out->kind == NAN_WORD || down || is_text(p, end, "POSITIVE_INFINITY") || is_text(p, end, "Infinity");
  }
  if (p < end && (*p == '-' || *p == '+')) out->negative = *p++ == '-';
  if (is_text(p, end, "Infinity")) {
    out->kind = INFINITY_WORD;
    return true;
  }
  out->whole = p;
  while (p < end && lc_is_digit(*p))
    p++;
  out->whole_end = out->fraction = out->fraction_end = p;
  if (p < end && *p == '.') {
    out->fraction = ++p;
    while (p < end && lc_is_digit(*p))
      p++;
    out->fraction_end = p;
  }
  if (out->whole == out->whole_end && out->fraction == out->fraction_end) return false;
  if (p < end && (*p | 0x20) == 'e') {
    bool below = ++p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+')) p++;
    if (p == end) return false;
    for (; p < end && lc_is_digit(*p); p++)
      if (out->exponent < 1000000000000) out->exponent = out->exponent * 10 + (*p - '0');
    if (below) out->exponent = -out->exponent;
  }
  return p == end;
}

/* Digit i of whole and fraction together. */
static inline uint8_t digit_at(const parts *number, int64_t i) {
  int64_t whole = number->whole_end - number->whole;
  return i < whole ? number->whole[i] : number->fraction[i - whole];
}

int lc_decimal_from_text(const uint8_t *p, const uint8_t *end, const lc_decimal_target *target, uint8_t *out) {
  parts number;
  if (!take_apart(p, end, &number)) return LC_ROW_TYPE;
  if (number.kind != FINITE) return LC_ROW_RANGE;
  int64_t fraction = number.fraction_end - number.fraction, count = number.whole_end - number.whole + fraction;
  int64_t shift = number.exponent - fraction + target->scale; /* the integer is digits * 10^shift */
  int64_t kept = shift < 0 ? count + shift : count;
  for (int64_t i = kept < 0 ? 0 : kept; i < count; i++)
    if (digit_at(&number, i) != '0') return LC_ROW_SCALE;
  lc_u256 magnitude = {{0}};
  for (int64_t i = 0; i < kept; i++)
    if (!lc_u256_mul_add(&magnitude, 10, (uint64_t)(digit_at(&number, i) - '0'))) return LC_ROW_RANGE;
  if (shift > 0 && !scale_up(&magnitude, shift)) return LC_ROW_RANGE;
  if (lc_u256_compare(&magnitude, &target->limit) >= 0) return LC_ROW_RANGE;
  lc_decimal_store(&magnitude, number.negative && !is_zero(&magnitude), target->width, out);
  return 0;
}

/* Canonical text of digits (whole then fraction) with the point moved right by `exponent`. */
static int numeric_write(const parts *number, lc_buffer *out) {
  int64_t whole = number->whole_end - number->whole, count = whole + (number->fraction_end - number->fraction);
  int64_t first = 0;
  while (first < count && digit_at(number, first) == '0')
    first++;
  bool zero = first == count;
  int64_t point = whole + number->exponent; /* digits before the point; may lie outside 0..count */
  int64_t fraction = point < count ? count - point : 0;
  int64_t lead = zero ? 0 : point - first; /* digits before the point without leading zeros */
  int64_t digits = (lead > 0 ? lead : 1) + fraction;
  if (digits > LC_NUMERIC_DIGITS_MAX) return LC_ROW_RANGE;
  if (!lc_buffer_reserve(out, (size_t)digits + 2)) return -1;
  uint8_t *p = out->data + out->size;
  if (number->negative && !zero) *p++ = '-';
  if (lead <= 0) *p++ = '0';
  for (int64_t i = point - (lead > 0 ? lead : 0); i < point; i++)
    *p++ = i < count ? digit_at(number, i) : '0';
  if (fraction > 0) {
    *p++ = '.';
    for (int64_t i = point; i < count; i++)
      *p++ = i < 0 ? '0' : digit_at(number, i);
  }
  out->size = (size_t)(p - out->data);
  return 0;
}

int lc_numeric_from_text(const uint8_t *p, const uint8_t *end, lc_buffer *out) {
  parts number;
  if (!take_apart(p, end, &number)) return LC_ROW_TYPE;
  if (number.kind == NAN_WORD) return lc_buffer_append(out, "NaN", 3) ? 0 : -1;
  if (number.kind == INFINITY_WORD)
    return lc_buffer_append(out, number.negative ? "-Infinity" : "Infinity", number.negative ? 9 : 8) ? 0 : -1;
  return numeric_write(&number, out);
}

/* ---- two's complement bytes ---- */

enum { BYTES_MAX = 8320 }; /* more bytes than any number of 20,000 digits has */

/* Big-endian two's complement to sign and magnitude in place of `limbs` (32 bits, least significant first); their
 * count. */
static int magnitude_limbs(const uint8_t *bytes, size_t size, bool negative, uint32_t *limbs) {
  int count = (int)((size + 3) / 4);
  memset(limbs, 0, (size_t)count * 4);
  for (size_t i = 0; i < size; i++) {
    uint32_t byte = negative ? (uint8_t)~bytes[size - 1 - i] : bytes[size - 1 - i];
    limbs[i / 4] |= byte << (8 * (i % 4));
  }
  for (int i = 0; negative && i < count; i++)
    if (++limbs[i] != 0)
      break; /* cannot leave the top: the sign byte was stripped to one, whose inverse is below 0xFF */
  while (count > 0 && limbs[count - 1] == 0)
    count--;
  return count;
}

/* Decimal digits of the limbs, written in front of `end`; their first byte.  Destroys the limbs. */
static uint8_t *limbs_digits(uint32_t *limbs, int count, uint8_t *end) {
  if (count == 0) *--end = '0';
  while (count > 0) {
    uint64_t rest = 0;
    for (int i = count - 1; i >= 0; i--) {
      rest = rest << 32 | limbs[i];
      limbs[i] = (uint32_t)(rest / 1000000000u);
      rest %= 1000000000u;
    }
    while (count > 0 && limbs[count - 1] == 0)
      count--;
    for (int d = 0; d < 9 && (count > 0 || rest > 0); d++, rest /= 10)
      *--end = (uint8_t)('0' + rest % 10);
  }
  return end;
}

/* Drop bytes that only repeat the sign. */
static void strip_sign(const uint8_t **bytes, size_t *size) {
  while (*size > 1 && (((*bytes)[0] == 0 && (*bytes)[1] < 0x80) || ((*bytes)[0] == 0xFF && (*bytes)[1] >= 0x80))) {
    ++*bytes;
    --*size;
  }
}

/* The integer's digits as text, sign apart, in a buffer to be freed.  0, RANGE, or -1. */
static int bytes_digits(const uint8_t *bytes, size_t size, lc_buffer *memory, parts *number) {
  strip_sign(&bytes, &size);
  if (size > BYTES_MAX) return LC_ROW_RANGE;
  uint32_t limbs[BYTES_MAX / 4 + 1];
  bool negative = size > 0 && bytes[0] >= 0x80;
  int count = magnitude_limbs(bytes, size, negative, limbs);
  size_t room = size * 5 / 2 + 16; /* 2.41 digits a byte */
  if (!lc_buffer_reserve(memory, room)) return -1;
  uint8_t *end = memory->data + room, *start = limbs_digits(limbs, count, end);
  *number = (parts){
      .negative = negative, .kind = FINITE, .whole = start, .whole_end = end, .fraction = end, .fraction_end = end};
  return 0;
}

int lc_numeric_from_bytes(const uint8_t *bytes, size_t size, int32_t scale, lc_buffer *out) {
  lc_buffer memory = {0};
  parts number;
  int code = bytes_digits(bytes, size, &memory, &number);
  if (code == 0) {
    number.exponent = -(int64_t)scale;
    code = numeric_write(&number, out);
  }
  lc_buffer_free(&memory);
  return code;
}

int lc_decimal_from_bytes(const uint8_t *bytes, size_t size, int32_t wire_scale, const lc_decimal_target *target,
                          uint8_t *out) {
  strip_sign(&bytes, &size);
  if (size > BYTES_MAX) return LC_ROW_RANGE;
  int64_t shift = (int64_t)target->scale - wire_scale;
  bool negative = size > 0 && bytes[0] >= 0x80;
  lc_u256 magnitude = {{0}};
  if (size > 32) { /* only a division by a power of ten can bring it down: by way of its digits */
    lc_buffer memory = {0};
    parts number;
    int code = bytes_digits(bytes, size, &memory, &number);
    for (int64_t i = 0; code == 0 && i < -shift && number.whole_end > number.whole; i++)
      if (*--number.whole_end != '0') code = LC_ROW_SCALE;
    if (code == 0 && shift < 0) number.fraction = number.fraction_end = number.whole_end;
    for (const uint8_t *p = number.whole; code == 0 && p < number.whole_end; p++)
      if (!lc_u256_mul_add(&magnitude, 10, (uint64_t)(*p - '0'))) code = LC_ROW_RANGE;
    lc_buffer_free(&memory);
    if (code != 0) return code;
  } else {
    for (size_t i = 0; i < size; i++) {
      uint64_t byte = negative ? (uint8_t)~bytes[size - 1 - i] : bytes[size - 1 - i];
      magnitude.words[i / 8] |= byte << (8 * (i % 8));
    }
    if (negative) lc_u256_mul_add(&magnitude, 1, 1); /* the inverted sign bit is 0: no overflow */
    if (shift < 0 && !scale_down(&magnitude, -shift)) return LC_ROW_SCALE;
  }
  if (shift > 0 && !scale_up(&magnitude, shift)) return LC_ROW_RANGE;
  if (lc_u256_compare(&magnitude, &target->limit) >= 0) return LC_ROW_RANGE;
  lc_decimal_store(&magnitude, negative && !is_zero(&magnitude), target->width, out);
  return 0;
}

size_t lc_decimal_text(const uint8_t *value, int32_t width, int32_t scale, uint8_t *out) {
  lc_u256 magnitude = {{0}};
  bool negative = (value[width - 1] & 0x80) != 0;
  uint64_t carry = negative;
  for (int i = 0; i < width / 8; i++) {
    uint64_t word = 0;
    for (int b = 7; b >= 0; b--)
      word = word << 8 | value[i * 8 + b];
    magnitude.words[i] = negative ? ~word + carry : word;
    carry = carry && magnitude.words[i] == 0;
  }
  uint8_t digits[80];
  int count = 0;
  while (!is_zero(&magnitude) || count <= scale) { /* one digit before the point at least */
    uint64_t rest = lc_u256_divide(&magnitude, 1000000000000000000ull);
    for (int d = 0; d < 18 && (rest != 0 || !is_zero(&magnitude) || count <= scale); d++, rest /= 10)
      digits[count++] = (uint8_t)('0' + rest % 10);
  }
  uint8_t *p = out;
  if (negative) *p++ = '-';
  while (count > 0) {
    if (count == scale) *p++ = '.';
    *p++ = digits[--count];
  }
  return (size_t)(p - out);
}
